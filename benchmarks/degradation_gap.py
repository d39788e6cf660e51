"""What a degradation costs: a random forest on the pixels of the rich and of the poor view, by severity.

    python benchmarks/degradation_gap.py --data FOLDER

The folder holds a folder per data set. Each is prepared with `PAIRS` train pairs; the forest learns from them and is
scored on the validation split, so that severities are not chosen on the test split. The classifier is simple and the
same for both views; a network tells both better, and its gap may be wider or narrower.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from cmkd.data import Pack
from cmkd.datasets import DATASETS

RESULTS = Path(__file__).parent / "results"
PAIRS, TREES = 2000, 60
SETS = {"mnist": "mnist", "fashion_mnist": "fashion-mnist", "cifar10": "cifar10", "eurosat": "eurosat", "fsdd": "fsdd"}
SEVERITIES = (0.2, 0.4, 0.6, 0.8)


def score(pack: Pack, view: str) -> float:
    """Return the validation accuracy of a forest on one view."""
    train, validation, labels = pack.rows("train"), pack.rows("validation"), pack.index["label"].to_numpy()
    values = pack.array(view).reshape(len(pack), -1)
    forest = RandomForestClassifier(TREES, random_state=0).fit(values[train], labels[train])
    return float(np.mean(forest.predict(values[validation]) == labels[validation]))


def measure(name: str, source: Path, folder: Path) -> list[str]:
    """Return the row of a data set: the rich view, then the poor one by severity, the default first."""
    kind = DATASETS.find(name)
    options: dict[str, object] = {} if name == "fsdd" else {"train_pairs": PAIRS}
    pack = kind(**options).prepare(source, folder / "default")
    about = pack.card.notes.split(" of severity ")
    cells = [name, about[0].removeprefix("degraded view: ").split(" ")[0], f"{score(pack, kind.rich):.2f}"]
    cells.append(f"{score(pack, kind.poor):.2f} at {about[1].split(',')[0].split(';')[0]}")
    for severity in SEVERITIES:
        made = kind(severity=severity, **options).prepare(source, folder / f"severity{severity}")
        cells.append(f"{score(made, kind.poor):.2f}")
    return cells


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="What a degradation costs.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    chosen = parser.parse_args()
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False, cwd=RESULTS.parent
    )
    columns = ["data set", "view", "rich", "poor, default", *(f"poor, {severity}" for severity in SEVERITIES)]
    lines = [
        "# What a degradation costs",
        "",
        f"`python benchmarks/degradation_gap.py --data FOLDER --sets {chosen.sets}`, commit "
        f"{described.stdout.strip() or 'unknown'}, {os.cpu_count()} CPU cores ({platform.machine()}). Validation "
        f"accuracy of a random forest of {TREES} trees on pixels, {PAIRS} train pairs (fsdd: all), one seed.",
        "",
        f"| {' | '.join(columns)} |",
        "|---|---|" + "---:|" * (len(columns) - 2),
    ]
    for name in chosen.sets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            lines.append(f"| {' | '.join(measure(name, chosen.data / SETS[name], Path(folder)))} |")
        print(lines[-1], flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "degradation_gap.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
