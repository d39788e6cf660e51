"""Accuracy in each sensor mode and gap of the simulator: networks, random forests, and learning curves.

    cmkd bench benchmarks/suites/marine.yaml --out runs/marine
    python benchmarks/marine_modes.py runs/marine

Reads the runs of the suite and measures the shortcuts that `cmkd data check` reports; trains no network. Writes
``marine_modes.md`` and ``docs/images/marine-curves.svg``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cmkd.bench.suite import PlannedRun, Suite
from cmkd.data.quality import open_source
from cmkd.data.quality.shortcuts import find_shortcuts
from cmkd.datasets import open_data
from cmkd.evaluation import in_points, interval
from cmkd.evaluation.results import read_history, read_results
from cmkd.io import write_bytes, write_text
from cmkd.report.figures import COLORS, draw
from records import RESULTS, about, table

SUITE = RESULTS.parent / "suites" / "marine.yaml"
HEADER = ["data", "n", "teacher", "none", "teacher less none (95 % CI)", "steps", "leveled off"]
FORESTS = ["forest: optical", "forest: radar", "forest: metadata", "chance"]


def with_spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of accuracies in %."""
    spread = f" ({100 * np.std(values, ddof=1):.1f})" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def networks(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the cells of one data set about its networks, from the results of each run: a teacher and a student."""
    teachers, students = [one["teacher"] for one in results], [one["students"][0] for one in results]
    both = [[float(model["test_accuracy"]) for model in models] for models in (teachers, students)]
    gaps = [teacher - student for teacher, student in zip(*both, strict=True)]
    steps = " and ".join(str(int(np.median([model["steps"] for model in models]))) for models in (teachers, students))
    leveled = sum(model["converged"] for model in (*teachers, *students))
    counts = [steps, f"{leveled} of {2 * len(results)}"]
    return [str(len(results)), *map(with_spread, both), in_points(float(np.mean(gaps)), interval(gaps))[0], *counts]


def forests(reference: str) -> list[str]:
    """Return the cells of one data set about random forests on trivial features, and on metadata alone."""
    pack = open_data(reference)
    found = {one.modality: one for one in find_shortcuts(open_source(pack.path)).found}
    cells = [
        f"{100 * found[name].accuracy:.1f}" if name in found else "" for name in (pack.card.rich, pack.card.poor, "")
    ]
    return [*cells, f"{100 * max(one.chance for one in found.values()):.1f}"]


def curves(runs: Sequence[PlannedRun]) -> Figure:
    """Draw validation accuracy against steps: one panel per data set, one line per seed."""
    names = list(dict.fromkeys(planned.data for planned in runs))
    figure = Figure(figsize=(10, 2.2 * -(-len(names) // 4)))
    panels = figure.subplots(-(-len(names) // 4), 4, sharey=True, squeeze=False)
    for axes in panels.flat[len(names) :]:
        axes.remove()
    for axes, name in zip(panels.flat, names, strict=False):
        for planned in (planned for planned in runs if planned.data == name):
            for color, role in zip(COLORS, ("teacher", "students/none"), strict=False):
                for path in planned.config.out.glob(f"{role}/**/history.csv"):
                    seen = read_history(path, ("step", "validation_accuracy"))
                    axes.plot(seen["step"] / 1000, 100 * seen["validation_accuracy"], color=color, linewidth=0.7)
        axes.set_title(short(name), fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("validation accuracy, %")
    figure.supxlabel("steps, thousands", fontsize=9)
    handles = [axes.plot([], [], color=color)[0] for color in COLORS[:2]]
    figure.legend(handles, ["optical teacher", "radar student alone"], loc="lower right", frameon=False)
    figure.tight_layout()
    return figure


def short(reference: str) -> str:
    """Return the options in which a data set of the suite differs from the others.

    Example:
        >>> short("marine(pairs=1500,size=24,mode=iw,gap=0.5)")
        'iw, gap=0.5'
    """
    options = reference.partition("(")[2].rstrip(")").split(",")
    return ", ".join(option.removeprefix("mode=") for option in options if option.startswith(("mode=", "gap=")))


def main() -> None:
    """Write table and figure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", type=Path, help="folder of the suite's results")
    given = options.parse_args()
    suite = Suite.load(SUITE)
    runs = suite.runs(given.runs / "runs")
    places = [(planned.data, planned.config.out / "results.json") for planned in runs]
    results = [(data, read_results(path)) for data, path in places if path.exists()]
    lines = []
    for name in suite.data:
        own = [found for data, found in results if data == name and found["students"]]
        trained = networks(own) if own else ["0", *[""] * (len(HEADER) - 2)]
        lines.append([short(name), *trained, *forests(name)])
    commits = ", ".join(sorted({one["commit"][:10] for _, found in results for one in found["students"]}))
    text = (
        f"# The sensor modes of the simulator\n\n`cmkd bench benchmarks/suites/marine.yaml --out runs/marine`, then "
        f"`python benchmarks/marine_modes.py runs/marine`, {about()}. Networks trained by commit {commits}.\n\n"
        "Accuracy in % on the test pairs, mean (standard deviation) over *n* teachers, each with a student alone, "
        "`none`, of the same seed; all labels, 24 radar pixels a side, largest number of steps 16,000. *Steps*: "
        "median of the teacher and of the student. *Leveled off*: networks whose validation had stopped rising. The "
        "forests see trivial features of one modality (mean, quantiles, bright area), or metadata alone, in five folds "
        "of the train pairs (`cmkd data check`), so they compare with the networks only roughly.\n\n"
    )
    write_text(RESULTS / "marine_modes.md", text + table([*HEADER, *FORESTS], lines, left=1) + "\n")
    write_bytes(RESULTS.parents[1] / "docs" / "images" / "marine-curves.svg", draw(curves(runs), "svg"))


if __name__ == "__main__":
    main()
