"""Derive packs from the pairs of existing data sets, for suites that those data sets do not suit as they are.

    python benchmarks/derived_data.py partly_paired OUT --data digits wikipedia:DOWNLOADS

``partly_paired``: a tenth of the training pairs is complete; the others lack the rich modality. Every training pair has
a label, as in an archive of radar images of known ships, few of which were photographed. Validation and test stay as
they are.

``other_classes``: every second class for the student, in ``OUT/NAME``, and the rest for the teacher, in
``OUT/NAME-others``, as if a network for the rich sensor existed, but trained on other types of ships.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data import CardInfo, Pack, PackWriter
from cmkd.datasets import open_data
from cmkd.errors import CmkdError

COMPLETE = 0.1
"""Fraction of the training pairs of each class that keep the rich modality."""


def partly_paired(pack: Pack, out: Path) -> None:
    """Copy a pack; training pairs keep the rich modality only if a run with a tenth of the labels shows their label."""
    keeps = np.ones(len(pack), dtype=np.bool_)
    keeps[pack.withhold(COMPLETE).rows("train", labeled=False)] = False
    write(pack, out, range(len(pack.classes)), keeps)


def other_classes(pack: Pack, out: Path) -> None:
    """Split a pack into two packs with alternating classes."""
    keeps = np.ones(len(pack), dtype=np.bool_)
    write(pack, out, range(1, len(pack.classes), 2), keeps)
    write(pack, out.with_name(f"{out.name}-others"), range(0, len(pack.classes), 2), keeps)


def write(pack: Pack, out: Path, classes: Sequence[int], keeps_rich: NDArray[np.bool_]) -> None:
    """Write the pairs of some classes as a pack, whose modalities are named rich and poor."""
    labels = pack.index["label"].to_numpy()
    rows = np.flatnonzero(np.isin(labels, classes))
    names = {"rich": str(pack.card.rich), "poor": str(pack.card.poor)}
    there = {role: pack.index[f"has_{name}"].to_numpy()[rows] for role, name in names.items()}
    values: dict[str, list[NDArray[np.generic] | None]] = {
        role: [pack.array(name)[row] if has else None for row, has in zip(rows, there[role], strict=True)]
        for role, name in names.items()
    }
    values["rich"] = [value if keeps_rich[row] else None for value, row in zip(values["rich"], rows, strict=True)]
    modalities = [replace(pack.modality(name), name=role) for role, name in names.items()]
    info = CardInfo(out.name, rich="rich", poor="poor")
    with PackWriter(out, info, classes=[pack.classes[k] for k in classes], modalities=modalities) as writer:
        ids, splits, groups = (pack.index[column].to_numpy()[rows].tolist() for column in ("id", "split", "group"))
        writer.add_samples(ids, [classes.index(label) for label in labels[rows]], splits, groups, values)


KINDS = {make.__name__: make for make in (partly_paired, other_classes)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("out", type=Path, help="receives a folder for each data set")
    parser.add_argument("--data", nargs="+", required=True, help="data sets, as cmkd run --data takes them")
    given = parser.parse_args()
    try:
        for reference in given.data:
            KINDS[given.kind](open_data(reference), given.out / reference.split(":")[0].split("(")[0])
    except CmkdError as error:
        parser.error(str(error))
