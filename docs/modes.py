"""Draw one pair of each class in every sensor mode: ``python docs/modes.py`` writes docs/images/modes.png."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cmkd.simulators.marine import make_pair
from cmkd.simulators.marine.contact import contact_sheet
from cmkd.simulators.marine.modes import mode, modes
from cmkd.simulators.marine.vessels import CLASSES


def main() -> None:
    """Stack the contact sheets of all modes into one picture."""
    from PIL import Image

    target, parts = Path(__file__).parent / "images" / "modes.png", []
    for name in modes():
        pairs = [make_pair(8 + number, mode(name), gap=0.0) for number in range(len(CLASSES))]
        optical, radar = (np.stack([getattr(pair, sensor) for pair in pairs]) for sensor in ("optical", "radar"))
        contact_sheet([name], [0] * len(pairs), optical, radar, target, columns=len(pairs))
        with Image.open(target) as sheet:
            parts.append(sheet.convert("RGB"))
    whole = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)))
    for row, part in enumerate(parts):
        whole.paste(part, (0, row * part.height))
    whole.resize((whole.width * 3 // 4, whole.height * 3 // 4)).quantize(128).save(target, optimize=True)
    print(target)


if __name__ == "__main__":
    main()
