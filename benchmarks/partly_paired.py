"""Write packs in which a tenth of the training pairs is complete; the other pairs lack the rich modality.

The suite ``partly_paired.yaml`` trains on them. Every training pair has a label, as in an archive of radar images
of known ships, few of which were photographed. Validation and test stay as they are.

    python benchmarks/partly_paired.py OUT --data digits wikipedia:DOWNLOADS multiple_features:DOWNLOADS/mfeat
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data import CardInfo, Pack, PackWriter
from cmkd.datasets import open_data

COMPLETE = 0.1
"""Fraction of the training pairs of each class that keep the rich modality."""


def keeps_rich(pack: Pack) -> NDArray[np.bool_]:
    """Return which pairs keep the rich modality ``(pairs,)``: those whose label a run with a tenth of them shows."""
    keeps = np.ones(len(pack), dtype=np.bool_)
    keeps[pack.withhold(COMPLETE).rows("train", labeled=False)] = False
    return keeps


def write(data: str, out: Path) -> None:
    """Write one pack, whose modalities are named rich and poor."""
    pack = open_data(data)
    names = {"rich": str(pack.card.rich), "poor": str(pack.card.poor)}
    values = {role: list(pack.array(name)[:]) for role, name in names.items()}
    values["rich"] = [value if kept else None for value, kept in zip(values["rich"], keeps_rich(pack), strict=True)]
    modalities = [replace(pack.modality(name), name=role) for role, name in names.items()]
    info = CardInfo(out.name, rich="rich", poor="poor")
    with PackWriter(out, info, classes=pack.classes, modalities=modalities) as writer:
        ids, labels, splits, groups = (pack.index[column].tolist() for column in ("id", "label", "split", "group"))
        writer.add_samples(ids, labels, splits, groups, values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="receives a folder for each data set")
    parser.add_argument("--data", nargs="+", required=True, help="data sets, as cmkd run --data takes them")
    given = parser.parse_args()
    for reference in given.data:
        write(reference, given.out / reference.split(":")[0].split("(")[0])
