"""Tiny synthetic sources of all data sets, in their publishers' layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.data import Pack
from cmkd.datasets import DATASETS
from data.tiny import images, satellites, scenes, ships, sounds, tables

Write = Callable[[Path, np.random.Generator], object]


@dataclass(frozen=True)
class Tiny:
    """How to make a small pack of a data set.

    Args:
        write: writes the tiny source into an empty folder; None if `prepare` reads nothing.
        options: of the data set.
    """

    write: Write | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


UNCHECKED = {"check": False}
TINY: Mapping[str, Tiny] = {
    "ave": Tiny(scenes.ave),
    "bigearthnet": Tiny(satellites.bigearthnet),
    "cifar10": Tiny(images.cifar10, UNCHECKED),
    "cifar100": Tiny(images.cifar100, UNCHECKED),
    "crema_d": Tiny(scenes.crema_d),
    "digits": Tiny(),
    "eurosat": Tiny(images.eurosat, UNCHECKED),
    "eurosat_sar": Tiny(satellites.eurosat_sar),
    "fashion_mnist": Tiny(images.mnist, UNCHECKED),
    "fsdd": Tiny(sounds.fsdd),
    "fusar_ship": Tiny(ships.fusar_ship, {"size": 24, "optical_size": 16}),
    "marine": Tiny(options={"pairs": 24, "size": 32}),
    "marine_10k": Tiny(options={"pairs": 24}),
    "mars": Tiny(tables.mars),
    "mnist": Tiny(images.mnist, UNCHECKED),
    "multiple_features": Tiny(tables.multiple_features),
    "nyu_depth": Tiny(scenes.nyu_depth),
    "opensarship": Tiny(ships.opensarship, {"size": 24, "optical_size": 16}),
    "presto": Tiny(satellites.presto, UNCHECKED),
    "sen12ms": Tiny(satellites.sen12ms),
    "so2sat": Tiny(satellites.so2sat),
    "spoken_digits": Tiny(sounds.spoken_digits, UNCHECKED),
    "stl10": Tiny(images.stl10, UNCHECKED),
    "sun_rgbd": Tiny(scenes.sun_rgbd),
    "svhn": Tiny(images.svhn, UNCHECKED),
    "terramind": Tiny(satellites.terramind),
    "utd_mhad": Tiny(tables.utd_mhad),
    "wikipedia": Tiny(tables.wikipedia, UNCHECKED),
}
"""Data set -> its row; a data set without one fails the suite."""


def tiny_source(name: str, folder: Path) -> Path:
    """Write the tiny source of a data set into a new folder, and return the folder."""
    folder.mkdir(parents=True)
    write = TINY[name].write
    assert write is not None, f"{name} reads no files"
    write(folder, np.random.default_rng(0))
    return folder


def tiny_pack(name: str, source: Path | None, out: Path) -> Pack:
    """Prepare a small pack."""
    return DATASETS.find(name)(**TINY[name].options).prepare(source, out)
