"""A short run of every method on a data set: does each method train a student with finite losses?

    python benchmarks/every_method.py --data digits --data mars:DATA/mars

Each method trains one student for a few epochs under the same teacher; a run stops at the first loss that is not
finite. For a method that does not fit the two models (for example one that copies the teacher's layers into the
student), the table holds its error message. The accuracies are on validation; after so few epochs they only show that
the student learned something, and they rank nothing. An interrupted run resumes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from cmkd.config import RunConfig, TrainerConfig
from cmkd.documents import read_json
from cmkd.errors import CmkdError
from cmkd.experiment.runner import Experiment
from cmkd.expression import parse_call
from cmkd.io import write_json, write_text
from cmkd.methods import METHODS
from records import RESULTS, about, percent, table, without_folder


def attempt(data: str, method: str, epochs: int, out: Path) -> dict[str, object]:
    """Train one student and return its accuracy and time, or the error message."""
    record = out / "every_method" / f"{method}.json"
    if record.exists():
        return read_json(record)
    trainer = TrainerConfig(progress="none")
    experiment = Experiment(RunConfig(data, out, methods=method, seeds=1, epochs=epochs, trainer=trainer))
    start = time.perf_counter()
    try:
        results = experiment.run()
    except CmkdError as error:
        found: dict[str, object] = {"error": str(error)}
    else:
        accuracy = next(r["validation_accuracy"] for r in results["students"] if r["method"] == method)
        found = {"validation_accuracy": accuracy, "seconds": time.perf_counter() - start}
    write_json(record, found)
    return found


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", action="append", help="as for cmkd run; may be repeated")
    parser.add_argument("--methods", nargs="+", default=["none", *sorted(set(METHODS) - {"none"})])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/every_method"))
    parser.add_argument("--out", type=Path, default=RESULTS / "every_method.md")
    given = parser.parse_args()
    references = given.data or ["digits"]
    columns: dict[str, dict[str, dict[str, object]]] = {}
    for reference in references:
        name = parse_call(reference.partition(":")[0]).name
        columns[name] = {}
        for method in given.methods:
            columns[name][method] = attempt(reference, method, given.epochs, given.runs / name)
            print(name, method, columns[name][method], flush=True)
    rows = []
    for method in given.methods:
        found = [column[method] for column in columns.values()]
        accuracies = [one.get("validation_accuracy") for one in found]
        cells = [
            percent(a) if isinstance(a, float) else str(f["error"]) for a, f in zip(accuracies, found, strict=True)
        ]
        rows.append([method, *cells])
    command = " ".join(f"--data {without_folder(reference)}" for reference in references)
    header = ["method", *(f"{name}, validation % after {given.epochs} epochs" for name in columns)]
    about_method = " ".join((__doc__ or "").split("\n\n")[2].split())
    text = (
        "# Every method, a short run\n\n"
        f"`python benchmarks/every_method.py {command} --epochs {given.epochs}`; {about()}.\n\n"
        f"{about_method}\n\n"
    )
    write_text(given.out, f"{text}{table(header, rows, left=1)}\n")


if __name__ == "__main__":
    main()
