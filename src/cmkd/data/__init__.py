"""Paired data: packs, manifests, splits, and the data sets known by name."""

from cmkd.data.base import DataSet, Source, get, registry
from cmkd.data.card import SPLITS, Card, Version
from cmkd.data.manifest import append, build
from cmkd.data.open import cache_folder, open_data, prepare
from cmkd.data.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.data.writer import PackExistsError, PackWriter
from cmkd.types import Kind, Modality

__all__ = [
    "SPLITS",
    "Card",
    "DataSet",
    "Kind",
    "Modality",
    "Pack",
    "PackExistsError",
    "PackWriter",
    "Source",
    "Version",
    "append",
    "assign_splits",
    "build",
    "cache_folder",
    "get",
    "open_data",
    "prepare",
    "registry",
]
