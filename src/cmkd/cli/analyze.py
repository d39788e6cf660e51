"""``cmkd analyze``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cmkd.cli.evaluate import open_pairs
from cmkd.cli.parsing import call
from cmkd.expression import split_list
from cmkd.options import Bounds, Seed
from cmkd.progress import shown


def analyze(
    *models: Path,
    data: str,
    out: Path,
    split: Literal["train", "validation", "test"] = "validation",
    pairs: Annotated[int, Bounds(least=4)] = 2000,
    figures: bool = True,
    sample: Annotated[int, Bounds(least=4)] = 500,
    compare: bool = False,
    module: str = "",
    seed: Seed = 0,
) -> None:
    """Measure and draw the structure of trained models' features, at every stage.

    Args:
        models: folders of runs, or .safetensors files of models.
        data: training data of the models, as cmkd run --data takes it, or RUN/data for your own Dataset.
        out: folder for structure.json, figures/ and analysis.html.
        split: the split whose pairs are measured.
        pairs: the largest number of pairs, drawn at random.
        figures: draw every stage, which takes longer than measuring it.
        sample: the largest number of pairs that t-SNE draws; its time grows faster than this number.
        compare: for two runs or two files: add the metrics of the second minus the first, with intervals over the
            pairs.
        module: package.module:Name of your own network, if the model is one; several are separated by commas.
        seed: random seed of the pairs drawn, of t-SNE and of the bootstrap.
    """
    import torch

    from cmkd.analysis import analyze as measure
    from cmkd.analysis import compare as differences
    from cmkd.analysis import find, matched
    from cmkd.data.output import results_folder
    from cmkd.report.analysis import write_analysis

    subjects = find(models)
    answering = matched(subjects, models) if compare else {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    modules = split_list(module)
    results_folder(out, data=data)
    options: dict[str, Any] = {"split": split, "pairs": pairs, "seed": seed, "device": device}
    with shown("measuring", "models") as told:
        found = measure(subjects, open_pairs(data), modules=modules, progress=told, **options)
    comparison = None
    if answering:
        rows = differences(found, answering, seed=seed)
        comparison = {"first": str(models[0]), "second": str(models[1]), "rows": rows}
    with shown("drawing", "stages") as told:
        page = write_analysis(found, out, draw=figures, sample=sample, seed=seed, comparison=comparison, progress=told)
    print(f"{len(subjects)} models, {found.summary['data']['pairs']} {split} pairs")
    print(f"numbers: {out / 'structure.json'}\nanalysis: {page}")


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    call(analyze, arguments, prog="cmkd analyze")
