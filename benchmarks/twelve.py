"""Teacher, student alone, `kd` and `ds` on twelve benchmarks, next to random forest and logistic regression.

    python benchmarks/twelve.py --data DATA

DATA is a folder with one folder of published files for each data set that needs files. All data sets use the recipe of
``cmkd run --preset quick``. The large image sets are cut to 2,000 train pairs, so that two cores can compute the table,
and the simple baselines see the same pairs. An interrupted run resumes: trained students are kept.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cmkd.config import RunConfig
from cmkd.documents import read_json
from cmkd.experiment.runner import Experiment
from cmkd.io import write_text
from records import RESULTS, Records, about, percent, table, without_folder

TRANSFORMED = {
    "digits": "digits",
    "mnist": "mnist(train_pairs=2000):{data}/mnist",
    "fashion_mnist": "fashion_mnist(train_pairs=2000):{data}/fashion-mnist",
    "cifar10": "cifar10(train_pairs=2000):{data}/cifar10",
    "eurosat": "eurosat(train_pairs=2000):{data}/eurosat",
    "fsdd": "fsdd:{data}/fsdd",
}
REAL = {
    "mars": "mars:{data}/mars",
    "terramind": "terramind:{data}/terramind",
    "presto": "presto:{data}/presto",
    "wikipedia": "wikipedia:{data}/wikipedia",
    "spoken_digits": "spoken_digits:{data}",
    "multiple_features": "multiple_features:{data}/multiple_features",
}
HEADER = [
    "data set", "rich → poor", "pairs, train / test", "teacher", "RF / LR, rich", "none", "kd", "ds", "RF / LR, poor",
]  # fmt: skip


def baselines(reference: str, rows: list[dict[str, Any]], modality: str) -> str:
    """Return the test accuracies of random forest and logistic regression on one modality of the same pairs."""
    cell = (without_folder(reference), modality)
    found = {row["model"]: row["test_accuracy"] for row in rows if (row["reference"], row["modality"]) == cell}
    return " / ".join(percent(found.get(model)) or "-" for model in ("random forest", "logistic regression"))


def line(name: str, reference: str, results: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Return the row of one data set."""
    data, teacher = results["data"], results["teacher"]
    cells = [name, f"{data['rich']} → {data['poor']}", f"{data['pairs']['train']} / {data['pairs']['test']}"]
    cells += [percent(teacher["test_accuracy"]), baselines(reference, rows, data["rich"])]
    for method in ("none", "kd", "ds"):
        row = next((r for r in results["summary"] if r["method"] == method), None)
        if row is None:
            cells.append("")
            continue
        cell = percent(row["mean"]) + ("" if row["sd"] is None else f" ± {100 * row['sd']:.1f}")
        if row.get("gain_interval"):
            low, high = row["gain_interval"]
            cell += f" ({100 * row['gain']:+.1f}, {100 * low:+.1f} to {100 * high:+.1f})"
        cells.append(cell)
    return [*cells, baselines(reference, rows, data["poor"])]


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("CMKD_DATA", "data")), help="by default $CMKD_DATA"
    )
    parser.add_argument("--only", nargs="+", default=[*TRANSFORMED, *REAL])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/twelve"))
    parser.add_argument("--out", type=Path, default=RESULTS / "twelve.md")
    parser.add_argument("--simple", action="store_true", help="measure the missing simple baselines first")
    given = parser.parse_args()
    references = {name: text.format(data=given.data) for name, text in (TRANSFORMED | REAL).items()}
    for name in given.only:
        if given.simple:
            subprocess.run(
                [sys.executable, Path(__file__).with_name("simple_baselines.py"), references[name]], check=True
            )
        Experiment(RunConfig(references[name], given.runs / name, seeds=given.seeds)).run()
        write(given, references)


def write(given: argparse.Namespace, references: dict[str, str]) -> None:
    """Write the table of the data sets that are complete."""
    rows = list(Records(RESULTS / "simple_baselines.json", identity=()).rows.values())
    lines = []
    for name, reference in references.items():
        path = given.runs / name / "results.json"
        results = read_json(path) if path.exists() else {"complete": False}
        complete = results["complete"]
        lines.append(
            line(name, reference, results, rows) if complete else [name, "not run yet", *[""] * (len(HEADER) - 2)]
        )
    text = (
        "# Twelve benchmarks\n\n"
        f"`python benchmarks/twelve.py --data DATA --seeds {given.seeds}`, {about()}. "
        "Test accuracy in %, of models chosen on validation. Students: mean ± sample standard deviation over seeds, in "
        "brackets the gain over `none` with Student's 95 % interval of the paired differences. RF / LR: random forest "
        "and logistic regression on the same train pairs. One teacher per data set. All have the recipe of `--preset "
        "quick` (20 epochs and at least 1,000 steps of 32 to 128 pairs, a moving average of the weights) and the "
        "defaults of the methods. Both were chosen on validation pairs, for all sets together, with one exception: "
        "images that a data set calls cropped (digits, MNIST, Fashion-MNIST, spoken digits, multiple features) are "
        "shifted half as far.\n\n"
    )
    write_text(given.out, f"{text}{table(HEADER, lines, left=2)}\n")


if __name__ == "__main__":
    main()
