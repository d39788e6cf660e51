"""``cmkd analyze``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from cmkd.cli.parsing import parse


def analyze(
    *,
    data: str,
    out: Path,
    split: Literal["train", "validation", "test"] = "validation",
    pairs: int = 2000,
    figures: bool = True,
    sample: int = 500,
    seed: int = 0,
) -> None:
    """Measure and draw the structure of trained models' features.

    Args:
        data: what the models were trained on, as ``cmkd run --data`` takes it.
        out: folder for structure.json, figures/ and analysis.html.
        split: whose pairs are measured.
        pairs: the most pairs, drawn at random.
        figures: whether to draw every stage, which takes longer than measuring it.
        sample: the most pairs that t-SNE draws; its time grows faster than they do.
        seed: of the draws and of t-SNE.
    """


def parser() -> ArgumentParser:
    """Return the parser: one or more models, and the options of `analyze`."""
    made = ArgumentParser(
        prog="cmkd analyze",
        exit_on_error=False,
        allow_abbrev=False,
        description="Measure and draw the structure of trained models' features, at every stage.",
    )
    made.add_argument("models", nargs="+", type=str, help="folders of runs, or .safetensors files of models")
    made.add_function_arguments(analyze)
    return made


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    given = parse(parser(), arguments)
    from cmkd.analysis import analyze, find
    from cmkd.datasets.open import open_data
    from cmkd.errors import CmkdError
    from cmkd.report.analysis import write_analysis

    if given.sample < 4:
        raise CmkdError(f"--sample is {given.sample}; t-SNE needs at least 4")
    import torch

    subjects = find([Path(place) for place in given.models])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pack = open_data(given.data, allow_unlabeled=True)
    found = analyze(subjects, pack, split=given.split, pairs=given.pairs, seed=given.seed, device=device)
    page = write_analysis(found, Path(given.out), draw=given.figures, sample=given.sample, seed=given.seed)
    print(f"{len(subjects)} models, {found.summary['data']['pairs']} {given.split} pairs", file=sys.stdout)
    print(f"numbers: {Path(given.out) / 'structure.json'}\nanalysis: {page}")
