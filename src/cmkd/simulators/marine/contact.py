"""Contact sheets of simulated pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmkd.io import atomic
from cmkd.simulators.marine.mesh import Array
from cmkd.simulators.marine.radar import display

_GAP = 3  # pixels between cells


def contact_sheet(
    classes: Sequence[str], labels: Sequence[int], optical: Array, radar: Array, path: Path, *, columns: int = 10
) -> None:
    """Write a PNG with two rows per class: optical above radar, a column for each of the first pairs of the class.

    Args:
        classes: names of the classes; each gets two rows.
        labels: ``(n,)`` positions in `classes`.
        optical: ``(n, 3, size, size)`` uint8.
        radar: ``(n, channels, size, size)`` sigma nought in dB.
        path: path of the PNG; it appears whole or not at all.
        columns: largest number of pairs per class.
    """
    from PIL import Image, ImageDraw

    side, margin = 128, 120
    cell = side + _GAP
    sheet = Image.new("RGB", (margin + columns * cell, len(classes) * 2 * cell), (24, 24, 28))
    draw = ImageDraw.Draw(sheet)
    for label, name in enumerate(classes):
        top = label * 2 * cell
        draw.text((6, top + cell - 20), name.replace(" ", "\n"), fill=(235, 235, 235))
        rows = [i for i, value in enumerate(labels) if value == label][:columns]
        for column, row in enumerate(rows):
            for half, picture in enumerate((optical[row].transpose(1, 2, 0), display(radar[row]))):
                near = picture.shape[0] <= side
                tile = Image.fromarray(np.ascontiguousarray(picture))
                tile = tile.resize((side, side), Image.Resampling.NEAREST if near else Image.Resampling.BOX)
                sheet.paste(tile, (margin + column * cell, top + half * cell))
    with atomic(path) as temporary:
        sheet.save(temporary, format="PNG")
