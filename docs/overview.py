"""Draw the README's picture from a run: ``python docs/overview.py demo`` writes docs/images/overview.png."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cmkd.report import figures
from cmkd.types import Modality


def picture(figure: Figure) -> Image.Image:
    """Return a figure as an image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return Image.open(buffer).convert("RGB")


def main(run: Path) -> None:
    """Put sample pairs above the accuracy of every student."""
    about = json.loads((run / "samples.json").read_text(encoding="utf-8"))
    modalities = {name: Modality.from_dict(described) for name, described in about["modalities"].items()}
    with np.load(run / "samples.npz", allow_pickle=False) as arrays:
        pairs = figures.samples_figure({name: arrays[name] for name in modalities}, modalities, about["labels"])
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    rows: dict[str, list[float]] = {}
    for student in results["students"]:
        rows.setdefault(student["method"], []).append(student["test_accuracy"])
    parts = [picture(pairs), picture(figures.accuracy_figure(results["teacher"]["test_accuracy"], rows))]
    width = max(part.width for part in parts)
    whole = Image.new("RGB", (width, sum(part.height for part in parts) + 20), "white")
    top = 0
    for part in parts:
        whole.paste(part, ((width - part.width) // 2, top))
        top += part.height + 20
    target = Path(__file__).parent / "images" / "overview.png"
    target.parent.mkdir(exist_ok=True)
    whole.save(target)
    print(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
