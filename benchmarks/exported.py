"""Exported students against PyTorch: difference of the probabilities, latency, and accuracy in int8.

    OMP_NUM_THREADS=1 python benchmarks/exported.py terramind:DATA/terramind presto:DATA mars:DATA/mars ...

For each data set, a run trains a teacher and a student for a few epochs; the figure is a difference between two ways to
compute one network, so the networks need not have converged. `cmkd export` writes the student as ONNX, also in int8,
and PyTorch and ONNX classify 500 test pairs. An interrupted run resumes. Writes ``exported.json`` and ``exported.md``.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.config import RunConfig
from cmkd.datasets import open_data
from cmkd.deploy.export import export
from cmkd.deploy.latency import BATCHES, timings
from cmkd.deploy.quantize import accuracy
from cmkd.deploy.samples import labeled, labeled_rows
from cmkd.deploy.student import load_student
from cmkd.experiment.runner import Experiment
from cmkd.io import write_text
from convergence import folder
from records import RESULTS, Records, command, percent, table, with_placeholder

PAIRS = 500
ALLOWED = 1e-4


def measure(reference: str, run: Path, epochs: int) -> dict[str, Any]:
    """Train, export and compare the student of one data set."""
    Experiment(RunConfig(reference, run, "none", seeds=1, epochs=epochs)).run()
    data = open_data(reference)
    found = export(run, int8=True, data=data)
    rows = labeled_rows(found.reference, data, "test", PAIRS)
    samples, _ = labeled(found.reference, data, "test", PAIRS)
    exported = load_student(found.path, device="cpu")  # as a user of the file loads it
    difference = np.abs(exported.probabilities(samples) - found.reference.probabilities(samples)).max()
    assert found.int8 is not None
    modality = found.reference.modality
    return {
        "data": with_placeholder(reference),
        "modality": f"{modality.name}, {modality.kind} {' x '.join(map(str, modality.shape))}",
        "model": found.reference.about["model"],
        "pairs": len(samples),
        "difference": float(difference),
        "other_classes": int((exported.logits(samples).argmax(1) != found.reference.logits(samples).argmax(1)).sum()),
        "test_accuracy": {
            "PyTorch": accuracy(found.reference, data, rows),
            "ONNX Runtime": accuracy(exported, data, rows),
            "int8": accuracy(found.int8.student, data, rows),
        },
        "int8": {
            "method": found.int8.method,
            "validation_pairs": found.int8.pairs,
            "validation_accuracy": found.int8.accuracy,
            "validation_accuracy_float": found.int8.float_accuracy,
        },
        "timings": [asdict(timing) for timing in timings(found)],
    }


def write(given: argparse.Namespace) -> None:
    """Write the table of the measured data sets, one row each."""
    records, lines = stored(given), []
    data = [key.rpartition(", ")[0] for key in records.rows]
    epochs = str(given.epochs)
    for row in records.rows.values():
        times = {t["name"]: t for t in row["timings"]}
        small = row["int8"]
        cells = [row["data"], row["modality"], str(row["pairs"]), f"{row['difference']:.1e}", str(row["other_classes"])]
        cells += [f"{times[name]['size'] / 1000:.0f}" for name in times]
        cells += [" / ".join(f"{t['processor_milliseconds'][str(b)]:.3g}" for t in times.values()) for b in BATCHES]
        cells += [f"{percent(small['validation_accuracy_float'])} / {percent(small['validation_accuracy'])}"]
        cells += [f"{small['method']}, {small['validation_pairs']}"]
        lines.append(cells)
    header = ["data set", "modality", "pairs", "largest difference", "other classes"]
    header += ["PyTorch, kB", "ONNX, kB", "int8, kB", *(f"batch {b}: PyTorch / ONNX / int8, ms" for b in BATCHES)]
    header += ["validation accuracy, float / int8, %", "int8, validation pairs"]
    text = (
        "# Exported students against PyTorch\n\n"
        f"`OMP_NUM_THREADS=1 {command('exported.py', data, '--epochs', epochs)}`, "
        f"{records.about}, onnxruntime {version('onnxruntime')}.\n\n"
        f"One student of each data set, trained for {epochs} epochs: the networks have not converged, and the "
        "accuracies say nothing about the data sets. The figure is the largest difference between a probability of "
        f"PyTorch and of the exported file on real test pairs (allowed: {ALLOWED:g}), and how many of these pairs get "
        "another class. Times are medians of at most 50 runs in turns, with one thread. They are processor time, the "
        "latency on a free core: other programs used the machine too, so that the time on the clock, which "
        "`exported.json` has as well, measures them. Larger batches of point sets are slower than "
        "in PyTorch, as onnxruntime scatters slowly. Accuracy in int8 is on all validation pairs.\n\n"
    )
    write_text(given.out / "exported.md", f"{text}{table(header, lines, left=2)}\n")


def stored(given: argparse.Namespace) -> Records:
    """Return the rows measured so far."""
    return Records(given.out / "exported.json", identity=("data",))


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="+", help="as after --data of `cmkd run`")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/exported"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if any(not key.endswith(f", {given.epochs} epochs") for key in stored(given).rows):
        parser.error(f"{given.out / 'exported.json'} has rows of other epochs: give a new folder by --out")
    for reference in given.data:
        key = f"{with_placeholder(reference)}, {given.epochs} epochs"
        records = stored(given)
        if key not in records.rows:
            row = measure(reference, Path(folder(given.runs, reference)), given.epochs)
            if not row["difference"] <= ALLOWED:
                raise SystemExit(f"{key}: a probability differs by {row['difference']}")
            records.add(key, row)
        write(given)


if __name__ == "__main__":
    main()
