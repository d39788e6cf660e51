"""A short run of every method on a data set: does it train a student without a NaN, and what does an epoch take?

    python benchmarks/every_method.py --data digits --data mars:../shared/data/mars

Each method trains one student for a few epochs under the same teacher; a run stops at the first loss that is not
finite. A method that does not fit the two models (one that copies the teacher's layers into the student, say) is
reported with the words it says. The accuracies are on validation and after so few epochs say only that something was
learnt: they rank nothing. Resumable: what is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch

from cmkd.config import RunConfig, TrainerConfig
from cmkd.errors import CmkdError
from cmkd.experiment.runner import Experiment
from cmkd.expression import parse_call
from cmkd.io import write_json
from cmkd.methods import METHODS
from cmkd.provenance import commit

RESULTS = Path(__file__).parent / "results"


def attempt(data: str, method: str, epochs: int, out: Path) -> dict[str, object]:
    """Train one student and return what is to be said of it."""
    record = out / "every_method" / f"{method}.json"
    if record.exists():
        return dict(json.loads(record.read_text()))
    trainer = TrainerConfig(progress="none", logger="none")
    experiment = Experiment(RunConfig(data, out, methods=method, seeds=1, epochs=epochs, trainer=trainer))
    start = time.perf_counter()
    try:
        experiment.run()
    except CmkdError as error:
        found: dict[str, object] = {"says": str(error)}
    else:
        result = json.loads((experiment.student_folder(method, 0) / "result.json").read_text())
        found = {"validation_accuracy": result["validation_accuracy"], "seconds": time.perf_counter() - start}
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, found)
    return found


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", action="append", help="as for cmkd run; may be given several times")
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
    lines = [
        "# Every method, a short run", "",
        f"`python benchmarks/every_method.py {' '.join(sys.argv[1:])}`, commit {commit()}, torch {torch.__version__}, "
        f"{platform.machine()}, {torch.get_num_threads()} thread(s).", "",
        (__doc__ or "").split("\n\n")[2].replace("\n", " "), "",
        f"| method | {' | '.join(f'{name}, validation % after {given.epochs} epochs' for name in columns)} |",
        f"|---|{'---:|' * len(columns)}",
    ]  # fmt: skip
    for method in columns[next(iter(columns))]:
        cells = []
        for found in (column[method] for column in columns.values()):
            accuracy = found.get("validation_accuracy")
            cells.append(f"{100 * accuracy:.1f}" if isinstance(accuracy, float) else str(found["says"]))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
