"""Effect of each degradation on a random forest that sees the pixels of the rich or of the poor view, by severity.

    python benchmarks/degradation_gap.py --data DATA

DATA holds a folder per data set. Each is prepared with `PAIRS` train pairs. The forest is scored on the validation
split, so that severities are not chosen on the test split. The classifier is simple and the same for both views; a
network is better on both, and its gap may be wider or narrower.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from cmkd.data import Pack
from cmkd.datasets import DATASETS
from cmkd.io import write_text
from records import RESULTS, about, table

PAIRS, TREES = 2000, 60
SETS = {"mnist": "mnist", "fashion_mnist": "fashion-mnist", "cifar10": "cifar10", "eurosat": "eurosat", "fsdd": "fsdd"}
SEVERITIES = (0.2, 0.4, 0.6, 0.8)


def score(pack: Pack, view: str) -> float:
    """Return the validation accuracy of a random forest on one view."""
    train, validation, labels = pack.rows("train"), pack.rows("validation"), pack.index["label"].to_numpy()
    values = np.asarray(pack.array(view)).reshape(len(pack), -1)
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
        made = kind(**(options | {"severity": severity})).prepare(source, folder / f"severity{severity}")
        cells.append(f"{score(made, kind.poor):.2f}")
    return cells


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--out", type=Path, default=RESULTS / "degradation_gap.md")
    given = parser.parse_args()
    rows = []
    for name in given.sets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, given.data / SETS[name], Path(folder)))
        print(*rows[-1], flush=True)
    header = ["data set", "view", "rich", "poor, default", *(f"poor, {severity}" for severity in SEVERITIES)]
    text = (
        "# Effect of each degradation\n\n"
        f"`python benchmarks/degradation_gap.py --data DATA --sets {given.sets}`, {about()}. Validation accuracy of a "
        f"random forest of {TREES} trees on pixels, {PAIRS} train pairs (fsdd: all), one seed.\n\n"
    )
    write_text(given.out, f"{text}{table(header, rows, left=2)}\n")


if __name__ == "__main__":
    main()
