"""The paper's observation on converged networks: does the structure of a student's features go with its accuracy?

    python benchmarks/observation.py benchmarks/suites/defaults.yaml runs/defaults

Measures the embedding of every trained student of a suite on validation pairs, and correlates each measure with the
student's accuracy on test. It trains nothing, and an interrupted call continues. Writes ``observation.json`` and
``observation.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cmkd.analysis import Subject, find, stage_features
from cmkd.analysis.measure import EMBEDDING, measured
from cmkd.bench.suite import PlannedRun, Suite
from cmkd.datasets import open_data
from cmkd.datasets.open import without_folder
from cmkd.evaluation.results import read_results
from cmkd.io import write_text
from cmkd.markdown import escape
from cmkd.models.checkpoint import load_model
from cmkd.report.analysis import FEWEST_MODELS
from cmkd.structure import DESCRIBED, describe
from records import RESULTS, Records, about, table

MEASURES = {
    "correlation_mean_abs": "mean |r| between channels",
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
    "uniformity": "uniformity (lower is more uniform)",
    "uniformity_centered": "uniformity, centered",
    "fisher_ratio": "Fisher ratio",
    "nc1": "NC1 (spread within classes over between)",
    "silhouette": "silhouette",
    "linear_probe_accuracy": "linear probe",
}
WHERE = ["setting", "teacher"]
PAIRS, RESAMPLES = 1000, 2000


def measure(planned: PlannedRun, records: Records) -> None:
    """Store a row for each student of a run that is not measured yet."""
    results = read_results(planned.config.out / "results.json")
    accuracy = {(row["method"], row["seed"]): row["test_accuracy"] for row in results["students"]}
    students = [subject for subject in find([planned.config.out]) if subject.role == "student"]
    new = [subject for subject in students if _key(planned, subject) not in records.rows]
    if not new:
        return
    pack = open_data(planned.config.data)
    modality = str(planned.config.student.modality or pack.card.poor)
    rows = pack.rows("validation", modalities=(modality,), labeled=True)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:PAIRS])
    target = torch.from_numpy(pack.index["label"].to_numpy(dtype=np.int64)[rows])
    for subject in new:
        features = stage_features(load_model(subject.path)[0], pack, rows)[EMBEDDING]
        found = measured(describe, DESCRIBED, torch.from_numpy(features), target)["metrics"]
        row = {"data": planned.data, "setting": planned.setting, "teacher": planned.teacher}
        row |= {"method": subject.method, "seed": subject.seed, "test": accuracy[subject.method, subject.seed]}
        records.add(_key(planned, subject), row | {name: found[name] for name in MEASURES})


def _key(planned: PlannedRun, student: Subject) -> str:
    return f"{planned.title}, {student.method}, seed {student.seed}"


def relation(rows: pd.DataFrame, name: str, *, within: bool) -> str:
    """Return Spearman's correlation of a measure with accuracy, with a 95 % interval where runs are many.

    Args:
        rows: students of one data set.
        name: of the measure.
        within: rank within each setting, instead of over all students.
    """
    own = rows.dropna(subset=[name])
    columns = [own.groupby("setting")[c] if within else own[c] for c in (name, "test")]
    x, y = (np.asarray(column.rank(pct=True), dtype=np.float64) for column in columns)
    run = own.groupby(WHERE).ngroup().to_numpy()
    runs = int(run.max()) + 1
    drawn = np.random.default_rng(0).multinomial(runs, np.full(runs, 1 / runs), size=RESAMPLES)[:, run]
    whole, *others = weighted_correlations(x, y, np.vstack([np.ones(len(own)), drawn]))
    if runs < FEWEST_MODELS:
        return f"{whole:+.2f}"
    low, high = np.nanquantile(others, (0.025, 0.975))
    said = f"{whole:+.2f} ({low:+.2f} to {high:+.2f})"
    return f"**{said}**" if low > 0 or high < 0 else said


def weighted_correlations(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[Any]) -> NDArray[np.float64]:
    """Return the correlations ``(draws,)`` of ``x`` and ``y`` ``(n,)`` with the weights ``(draws, n)``."""
    share = weights / weights.sum(1, keepdims=True)
    a, b = (values - (share @ values)[:, None] for values in (x, y))
    both, first, second = ((share * product).sum(1) for product in (a * b, a * a, b * b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(both / np.sqrt(first * second))


def main() -> None:
    """Measure, and write the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("suite", type=Path)
    options.add_argument("runs", type=Path, help="folder of the suite's results")
    options.add_argument("--records", type=Path, default=RESULTS / "observation.json")
    options.add_argument("--out", type=Path, default=RESULTS / "observation.md")
    given = options.parse_args()
    records = Records(given.records, identity=("data", "setting", "teacher", "method", "seed"))
    for planned in Suite.load(given.suite).runs(given.runs / "runs"):
        if (planned.config.out / "results.json").exists():
            measure(planned, records)
    rows = pd.DataFrame(list(records.rows.values()))
    parts = [
        "# Does structure go with accuracy?",
        f"`cmkd bench {given.suite.as_posix()} --out RUNS`, then `python benchmarks/observation.py "
        f"{given.suite.as_posix()} RUNS`, {about()}.",
        f"Spearman's correlation of a measure of a student's embedding, on at most {PAIRS} validation pairs, with its "
        "accuracy on test. *Within*: of ranks within each label fraction, so that only method, teacher and seed "
        "differ. *Across*: over all students, whom the number of labels tells apart most. Students were trained until "
        "validation had leveled off. In brackets, from "
        f"{FEWEST_MODELS} runs on: 95 % intervals from resamples of runs, whose students share a teacher; bold where "
        "they exclude 0.",
    ]
    for data, own in rows.groupby("data", sort=False):
        lines = [[said, *(relation(own, name, within=w) for w in (True, False))] for name, said in MEASURES.items()]
        parts += [
            f"## {escape(without_folder(str(data)))}",
            f"{len(own)} students of {own.groupby(WHERE).ngroups} runs.",
        ]
        parts.append(table(["measure", "within", "across"], lines, left=1))
    write_text(given.out, "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
