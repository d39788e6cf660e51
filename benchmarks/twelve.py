"""Teacher, student alone, `kd` and `ds` on twelve benchmarks, with random forest and logistic regression beside them.

    python benchmarks/twelve.py --data ../shared/data

`--data` is a folder with one folder of published files for each data set that needs files. The recipe is that of
`cmkd run --preset quick` for all; the large image sets are cut to so many train pairs a set that the table can be made
on two cores, and the simple baselines see the same cut. Resumable: trained students and finished rows stay.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from simple_baselines import placeless

from cmkd.config import RunConfig, TrainerConfig
from cmkd.experiment.runner import Experiment
from cmkd.provenance import commit
from cmkd.report import write_report

HERE = Path(__file__).parent
RESULTS = HERE / "results"
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


def percent(value: float | None) -> str:
    """Return a share as a percentage."""
    return "" if value is None else f"{100 * value:.1f}"


def baselines(reference: str, rows: list[dict[str, Any]], modality: str) -> str:
    """Return the test accuracies of random forest and logistic regression on one modality of the very same pairs."""
    cell = (placeless(reference), modality)
    found = {row["model"]: row["test_accuracy"] for row in rows if (row["reference"], row["modality"]) == cell}
    return " / ".join(percent(found.get(model)) or "-" for model in ("random forest", "logistic regression"))


def line(name: str, reference: str, results: dict[str, Any], rows: list[dict[str, Any]]) -> str:
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
    return "| " + " | ".join([*cells, baselines(reference, rows, data["poor"])]) + " |"


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="+", default=[*TRANSFORMED, *REAL])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/twelve"))
    parser.add_argument("--out", type=Path, default=RESULTS / "twelve.md")
    parser.add_argument("--simple", action="store_true", help="fit the simple baselines too, where they are missing")
    given = parser.parse_args()
    references = {name: text.format(data=given.data) for name, text in (TRANSFORMED | REAL).items()}
    for name in given.only:
        if given.simple:
            subprocess.run([sys.executable, HERE / "simple_baselines.py", references[name]], check=True)
        trainer = TrainerConfig(logger="none")
        Experiment(RunConfig(references[name], given.runs / name, seeds=given.seeds, trainer=trainer)).run()
        write_report(given.runs / name)
        write(given, references)


def write(given: argparse.Namespace, references: dict[str, str]) -> None:
    """Write the table of what is there."""
    stored = RESULTS / "simple_baselines.json"
    rows = list(json.loads(stored.read_text())["rows"].values()) if stored.exists() else []
    lines = [
        "# Twelve benchmarks", "",
        f"`python benchmarks/twelve.py --data DATA --seeds {given.seeds}`, commit {commit()}, "
        f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} thread(s). "
        "Test accuracy in %, of models chosen on validation. "
        "Students: mean ± sample standard deviation over seeds, in brackets the gain over `none` with "
        "Student's 95 % interval of the paired differences. RF / LR: random forest and logistic "
        "regression on the same train pairs. One teacher a data set. All have the recipe of `--preset quick` (20 "
        "epochs and at least 1,000 steps of 32 to 128 pairs, a moving average of the weights) "
        "and the defaults of the methods; both were chosen on "
        "validation pairs, for all sets together, but that images which a data set calls cropped (digits, MNIST, "
        "Fashion-MNIST, spoken digits, multiple features) are shifted half as far.",
        "",
        "| data set | rich → poor | pairs, train / test | teacher | RF / LR, rich | none | kd | ds | RF / LR, poor |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for name, reference in references.items():
        path = given.runs / name / "results.json"
        results = json.loads(path.read_text()) if path.exists() else {"complete": False}
        lines.append(
            line(name, reference, results, rows) if results["complete"] else f"| {name} | not run yet{' |' * 8}"
        )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
