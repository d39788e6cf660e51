"""Compare statistics of the radar chips of two packs, such as simulated and real chips.

    python benchmarks/chip_statistics.py SIMULATED REAL

For each class, and over all: target-to-clutter ratio, equivalent number of looks and K shape of the clutter, extent of
the target's bright area along its main axis, and mean of the clutter, each as its 10, 50 and 90 % quantile. The
estimators and their biases are described in `cmkd.simulators.marine.chip_statistics`. The radar modality must be
calibrated: unit ``dB``, or ``linear`` power. The pixel spacing (columns ``spacing_y`` and ``spacing_x``,
the simulator's ``spacing_range`` and ``spacing_azimuth``, or ``spacing``) and the looks of the speckle (``looks``) are
read from the index; options supply missing values.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.data import Pack
from cmkd.errors import CmkdError
from cmkd.io import write_text
from cmkd.simulators.marine.chip_statistics import measure
from records import RESULTS, about, table

TITLES = ("target to clutter, dB", "looks", "K shape", "size, m", "clutter, dB")
QUANTILES = (0.1, 0.5, 0.9)


def main(arguments: list[str] | None = None) -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("packs", type=Path, nargs=2)
    parser.add_argument("--modality", default="radar")
    parser.add_argument("--channels", type=int, nargs=2, default=(0, 0), help="of the first and of the second pack")
    parser.add_argument("--spacing", type=float, help="of the pixels in m, where the index does not tell it")
    parser.add_argument("--looks", type=float, help="of the speckle, where the index does not tell them")
    parser.add_argument("--most", type=int, default=300, help="chips of each class that are measured, from the first")
    parser.add_argument("--out", type=Path, default=RESULTS / "chip_statistics.md")
    given = parser.parse_args(arguments)
    try:
        packs = [Pack.open(path) for path in given.packs]
        found = [
            statistics(pack, given.modality, channel, spacing=given.spacing, looks=given.looks, most=given.most)
            for pack, channel in zip(packs, given.channels, strict=True)
        ]
    except CmkdError as error:
        parser.error(str(error))
    names = [f"{pack.card.name}, channel {channel}" for pack, channel in zip(packs, given.channels, strict=True)]
    options = {name: getattr(given, name) for name in ("modality", "spacing", "looks", "most")}
    said = " ".join(f"--{name} {value}" for name, value in options.items() if value is not None)
    command = f"{given.packs[0].name} {given.packs[1].name} --channels {given.channels[0]} {given.channels[1]} {said}"
    text = (
        "# Statistics of radar chips\n\n"
        "10, 50 and 90 % quantiles over chips. A chip without a target is one whose brightest area is not six times "
        "its median. A K shape of inf says that the clutter varies no more than its speckle.\n\n"
        f"`python benchmarks/chip_statistics.py {command}`, {about()}.\n\n"
    )
    write_text(given.out, f"{text}{compared(names, found)}\n")


def compared(names: Sequence[str], found: Sequence[pd.DataFrame]) -> str:
    """Return the table: a row for each class and pack, then one for all classes of each pack."""
    classes = list(dict.fromkeys(name for values in found for name in values["class"]))
    rows = [
        [name, title, *described(values[values["class"] == name])]
        for name in classes
        for title, values in zip(names, found, strict=True)
        if (values["class"] == name).any()
    ]
    rows += [["all", title, *described(values)] for title, values in zip(names, found, strict=True)]
    return table(["class", "pack", "chips", "without target", *TITLES], rows, left=2)


def statistics(
    pack: Pack, modality: str, channel: int, *, spacing: float | None, looks: float | None, most: int
) -> pd.DataFrame:
    """Return a row per chip: its class, and its statistics from `measure`.

    Raises:
        CmkdError: the modality is not calibrated or does not have the channel, or neither the index nor the options
            have spacing and looks.
    """
    described = pack.modality(modality)
    if described.unit != "dB" and not described.unit.startswith("linear"):
        raise CmkdError(
            f"{modality} of {pack.path} has the unit '{described.unit}': the comparison needs a calibrated one, dB or "
            "linear power"
        )
    if not 0 <= channel < described.channels:
        raise CmkdError(f"{modality} of {pack.path} has {described.channels} channels, asked for number {channel}")
    labels = pack.index["label"]
    rows = labels[(labels >= 0) & pack.index[f"has_{modality}"]].groupby(labels).head(most).index.to_numpy()
    # the simulator's chips have range along their rows' axis
    names = (("spacing_y", "spacing_range"), ("spacing_x", "spacing_azimuth"))
    down, across = (_numbers(pack, rows, (*columns, "spacing"), "spacing", spacing) for columns in names)
    speckle = _numbers(pack, rows, ("looks",), "looks", looks)
    values, measured = pack.array(modality), []
    for row, *about_chip in zip(rows, down, across, speckle, strict=True):
        chip = np.ma.filled(described.masked(values[row, channel].astype(float)), np.nan)
        power = 10 ** (chip / 10) if described.unit == "dB" else chip
        measured.append(astuple(measure(power, spacing=(about_chip[0], about_chip[1]), looks=about_chip[2])))
    frame = pd.DataFrame(measured, columns=list(TITLES))
    return frame.assign(**{"class": [pack.classes[labels[row]] for row in rows]})


def _numbers(
    pack: Pack, rows: NDArray[np.int64], columns: tuple[str, ...], name: str, given: float | None
) -> NDArray[np.float64]:
    """Return positive numbers from the index, or from an option where the index has none."""
    column = next((column for column in columns if column in pack.index), None)
    found = pd.Series(np.nan, rows) if column is None else pd.to_numeric(pack.index[column][rows], errors="coerce")
    filled = np.asarray(found.fillna(np.nan if given is None else given), np.float64)
    if not (filled > 0).all():
        raise CmkdError(f"{pack.path} does not tell the {name} of its chips ({', '.join(columns)}): give --{name}")
    return filled


def described(values: pd.DataFrame) -> list[str]:
    """Return the number of chips, those without a target, and quantiles of each statistic."""
    cells = []
    for title in TITLES:
        known = values[title].dropna().to_numpy()
        # quantiles without interpolation, since a K shape may be infinite
        found = np.quantile(known, QUANTILES, method="inverted_cdf") if len(known) else []
        cells.append(" / ".join(f"{value:.3g}" for value in found))
    return [str(len(values)), str(int(values[TITLES[0]].isna().sum())), *cells]


if __name__ == "__main__":
    main()
