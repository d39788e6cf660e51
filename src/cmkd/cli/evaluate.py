"""``cmkd evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cmkd.cli.parsing import call
from cmkd.errors import CmkdError
from cmkd.options import Seed

if TYPE_CHECKING:
    from cmkd.data import Pack


def evaluate(
    model: Path,
    second: Path | None = None,
    *,
    data: str,
    out: Path,
    split: Literal["train", "validation", "test", "all"] = "test",
    robustness: bool = True,
    seed: Seed = 0,
    device: str = "auto",
    module: str = "",
) -> None:
    """Measure a student on labeled pairs, or compare two on the same pairs.

    Args:
        model: a run's folder (its recommended student), a .safetensors file, or an .onnx file of cmkd export.
        second: another student, to compare with the first.
        data: pairs, as cmkd run --data takes them, or RUN/data for your own Dataset; the models must have all of their
            classes.
        out: folder for evaluation.json and evaluation.html.
        split: the split whose pairs are measured; all for data that the models have never seen.
        robustness: also measure with noise, fewer pixels, missing channels and shifts; takes 20 times as long.
        seed: random seed of resamples and corruptions.
        device: where the models compute: auto, cpu, cuda, ...
        module: package.module:Name of your own network, if the model is one.
    """
    from cmkd.cli.tables import show, table
    from cmkd.data.output import results_folder
    from cmkd.deploy.evaluate import evaluate as measure
    from cmkd.deploy.student import load_student
    from cmkd.progress import shown
    from cmkd.report.evaluation import score_rows, verdict, write_evaluation

    paths = [model] if second is None else [model, second]
    loaded = [load_student(path, device=device, module=module or None) for path in paths]
    students = dict(zip(names(paths), loaded, strict=True))
    results_folder(out, data=data)
    with shown("evaluating") as progress:
        found = measure(students, open_pairs(data), split=split, robustness=robustness, seed=seed, progress=progress)
    page = write_evaluation(found, out)
    made = table("", *students)
    for said, cells in score_rows(found["models"]):
        made.add_row(said, *cells)
    show(made)
    which = "labeled" if split == "all" else split
    print(f"\n{found['data']['pairs']:,} {which} pairs; in brackets: {found['data']['intervals']}")
    if "comparison" in found:
        print(verdict(found))
    print(f"numbers: {out / 'evaluation.json'}\npage: {page}")


def open_pairs(data: str) -> Pack:
    """Open the pairs on which a trained model is measured.

    Raises:
        CmkdError: if there are none, or if they are the user's own ``Dataset``, from which a run has made a pack.
    """
    from cmkd.datasets.open import is_own, open_data

    if is_own(data):
        raise CmkdError(f"{data} is Python code, which only cmkd run calls: give the pack that the run made, RUN/data")
    return open_data(data)


def names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each model: a run's folder, or a file and its folder; full paths if these are the same.

    Example:
        >>> names([Path("/runs/a/student.onnx"), Path("/runs/b/student.onnx")])
        ['a/student.onnx', 'b/student.onnx']
    """
    if len(paths) > 1 and paths[0].resolve() == paths[1].resolve():
        raise CmkdError(f"'{paths[0]}' is given twice; give two different models, or one")
    full = [path.resolve() for path in paths]
    short = ["/".join(path.parts[-2:]) if path.suffix else path.name for path in full]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    call(evaluate, arguments, prog="cmkd evaluate")
