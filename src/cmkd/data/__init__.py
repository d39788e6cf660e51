"""Paired data: packs, manifests, pairing and quality. Specific data sets are in `cmkd.datasets`."""

from cmkd.data.manifest import append, build
from cmkd.data.map_style import from_dataset
from cmkd.data.pack import SPLITS, Card, CardInfo, Pack, PackExistsError, PackWriter, Version, train_values
from cmkd.data.split import assign_splits
from cmkd.types import Kind, Modality

__all__ = [
    "SPLITS",
    "Card",
    "CardInfo",
    "Kind",
    "Modality",
    "Pack",
    "PackExistsError",
    "PackWriter",
    "Version",
    "append",
    "assign_splits",
    "build",
    "from_dataset",
    "train_values",
]
