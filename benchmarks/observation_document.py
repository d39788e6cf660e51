"""Write ``observation.md`` and its figures from the stored results, and from nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ablation import of
from documents import about, paired, plain, said, table
from matplotlib.figure import Figure
from observation_values import Results, columns, mean, rho, value, views
from trials import REFERENCE, expression

from cmkd.io import write_text
from cmkd.report.figures import COLORS
from cmkd.report.structure import relation_figure, save

METRICS = (
    ("embedding", "correlation_mean_abs", "mean absolute correlation of channels, embedding", -1),
    ("embedding", "effective_rank", "effective rank, embedding", 1),
    ("embedding", "participation_ratio", "participation ratio, embedding", 1),
    ("embedding", "spectral_decay", "decay of the spectrum, embedding", -1),
    ("embedding", "uniformity_centered", "uniformity, centered embedding", -1),
    ("map", "correlation_mean_abs", "mean absolute correlation of channels, deepest map", -1),
    ("map", "effective_rank", "effective rank, deepest map", 1),
    ("map", "uniformity", "uniformity, deepest map", -1),
    ("map", "uniformity_centered", "uniformity, centered deepest map", -1),
)
"""Stage, metric, what it is called, and the sign its correlation with discriminability has if the observation holds."""
PROBES = (
    ("linear_probe_accuracy", "linear probe"),
    ("knn_accuracy", "5 nearest neighbors"),
    ("fisher_ratio", "Fisher ratio"),
)
STUDENTS = {
    "none": "none",
    "kd": REFERENCE,
    "ds without KD": expression({"kd_weight": 0}),
    "ds": expression({}),
}
LIKENESS = (
    ("cross_correlation_diagonal", "diagonal of the cross-correlation"),
    ("linear_cka", "linear CKA"),
    ("prediction_agreement", "agreement of predictions"),
    ("student_effective_rank", "effective rank"),
    ("student_correlation_mean_abs", "mean absolute correlation"),
    ("student_uniformity_centered", "uniformity, centered"),
)


def write(source: Path, ablation: Path, out: Path) -> Path:
    """Write the document and its figures.

    Args:
        source: ``observation.json``.
        ablation: ``ablation.json``, whose students are compared with their teachers; left out where it is absent.
        out: folder of ``observation.md``; figures go to ``images`` in it.
    """
    stored = json.loads(source.read_text(encoding="utf-8"))
    results = [r for r in stored["results"] if value(r, "embedding", "linear_probe_accuracy") is not None]
    ladders = [r for r in results if r["step"]["setting"]["severity"] is not None]
    names = list(dict.fromkeys(r["step"]["name"] for r in ladders))
    save(_ladder_figure(ladders, names), out / "images" / "observation-ladder", formats=("svg", "png"))
    for name, (stage, metric, label, _) in {"rank": METRICS[1], "uniformity": METRICS[7]}.items():
        figure = _relation_figure(ladders, stage, metric, label)
        save(figure, out / "images" / f"observation-{name}", formats=("svg", "png"))
    students = json.loads(ablation.read_text(encoding="utf-8"))["results"] if ablation.is_file() else []
    text = "\n\n".join(
        [
            "# Does dimensional structure go with discriminability?",
            _what(ladders, names),
            _verdict(ladders, names),
            "![Structure and accuracy by severity](images/observation-ladder.svg)",
            "## What correlates, and how strongly",
            _correlations(ladders, names),
            "![Effective rank against the linear probe](images/observation-rank.svg)",
            "![Uniformity of the deepest map against the linear probe](images/observation-uniformity.svg)",
            "## By severity",
            _by_severity(ladders, names),
            "## Two real sensors",
            _sensors(results),
            "## Does `ds` move the student's structure to the teacher's?",
            _moves(students),
            "## How to repeat it",
            "`make docs-studies DATA=FOLDER` trains everything, or continues, and writes this page and its figures; "
            "`python benchmarks/observation.py --write-only` writes them from `benchmarks/results/observation.json`.",
            about(stored["about"]),
        ]
    )
    path = out / "observation.md"
    write_text(path, text + "\n")
    return path


def _cell(found: tuple[float, float, float]) -> str:
    if np.isnan(found[0]):
        return "—"
    text = f"{plain(found[0])} ({plain(found[1])} to {plain(found[2])})"
    return f"**{text}**" if found[1] > 0 or found[2] < 0 else text


def _what(ladders: Results, names: Sequence[str]) -> str:
    severities = sorted({r["step"]["setting"]["severity"] for r in ladders})
    rungs = Counter((r["step"]["name"], r["step"]["setting"]["severity"]) for r in ladders).values()
    seeds = str(min(rungs)) if min(rungs) == max(rungs) else f"{min(rungs)} to {max(rungs)}"
    return (
        f"{len(ladders)} networks were trained with cross-entropy alone, on {', '.join(names)} seen through blur, "
        f"speckle and noise at {len(severities)} severities from {severities[0]:g} (the rich view itself) to "
        f"{severities[-1]:g}, {seeds} seeds each. Structure and discriminability are measured on validation pairs "
        "that trained nothing. The observation says: richer modality, more dimensional structure (channels less "
        "correlated, features more uniform on the sphere, more directions in use), better told classes."
    )


def _verdict(ladders: Results, names: Sequence[str]) -> str:
    holds, against, silent = [], [], []
    for stage, metric, name, sign in METRICS:
        rho, low, high = views(ladders, stage, metric, PROBES[0][0])[0]
        text = f"{name} (rho = {plain(rho)})"
        if np.isnan(rho) or low <= 0 <= high:
            silent.append(text)
        else:
            (holds if rho * sign > 0 else against).append(text)
    opposite = [name for stage, metric, name, _ in METRICS if _turns(ladders, names, stage, metric)]
    at_rung = [
        (name, found)
        for stage, metric, name, _ in METRICS
        if not np.isnan((found := views(ladders, stage, metric, PROBES[0][0])[1])[0]) and (found[1] > 0 or found[2] < 0)
    ]
    lines = [
        f"**Opposite in different data sets ({len(opposite)}):** {'; '.join(opposite) or 'none'}. Here one data set by "
        "itself shows a correlation that excludes zero, and another shows one of the other sign.",
        f"**As the observation says ({len(holds)} of {len(METRICS)} metrics):** {'; '.join(holds) or 'none'}.",
        f"**The other way round ({len(against)}):** {'; '.join(against) or 'none'}.",
        f"**No correlation that can be told from zero ({len(silent)}):** {'; '.join(silent) or 'none'}.",
        "**At one severity**, between networks that differ in their seed alone, the correlation excludes zero for "
        + ("; ".join(f"{name} (rho = {plain(found[0])})" for name, found in at_rung) or "no metric")
        + ". What remains is the severity itself: it moves structure and accuracy together, and that does not make one "
        "the cause of the other.",
    ]
    return "\n\n".join(lines)


def _turns(ladders: Results, names: Sequence[str], stage: str, metric: str) -> bool:
    """Whether a metric surely rises with discriminability in one data set and surely falls in another."""
    x, y, steps = columns(ladders, stage, metric, PROBES[0][0])
    found = [rho(x[own], y[own]) for name in names for own in [np.array([step["name"] == name for step in steps])]]
    return any(low > 0 for _, low, _ in found) and any(high < 0 for _, _, high in found)


def _correlations(ladders: Results, names: Sequence[str]) -> str:
    rows = []
    for stage, metric, name, sign in METRICS:
        x, y, steps = columns(ladders, stage, metric, PROBES[0][0])
        own = [np.array([step["name"] == ladder for step in steps]) for ladder in names]
        cells = [_cell(view) for view in views(ladders, stage, metric, PROBES[0][0])]
        others = [_cell(views(ladders, stage, metric, probe)[0]) for probe, _ in PROBES[1:]]
        expected = "+" if sign > 0 else "-"
        rows.append([name, expected, *cells, *(_cell(rho(x[o], y[o])) for o in own), *others])
    header = ["structure", "expected", "within data sets", "at one severity", *names]
    text = table([*header, *(f"with {said}" for _, said in PROBES[1:])], rows)
    return text + (
        "\n\nSpearman's rho with the accuracy of a linear probe on the embedding (last columns: with other measures, "
        "within data sets), and its 95 % interval by bootstrap over networks; bold where it excludes zero. *Within "
        "data sets* ranks networks inside each data set before they are put together. *At one severity* subtracts the "
        "mean of each data set and severity. Networks of one severity share their data, so the intervals are the least "
        "there is of doubt. Lower uniformity is more uniform, so a minus is expected there."
    )


def _by_severity(ladders: Results, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        for severity in sorted({r["step"]["setting"]["severity"] for r in ladders if r["step"]["name"] == name}):
            own = [r for r in ladders if (r["step"]["name"], r["step"]["setting"]["severity"]) == (name, severity)]
            rows.append([f"{name}, {severity:g}", *_row(own)])
    return table(_HEADER, rows)


_HEADER = (
    "", "networks", "accuracy (%)", "probe (%)", "mean abs. r, embedding", "effective rank, embedding",
    "uniformity, centered embedding", "uniformity, centered map",
)  # fmt: skip


def _row(own: Results) -> list[str]:
    return [
        str(len(own)),
        f"{100 * float(np.mean([r['validation'] for r in own])):.1f}",
        f"{100 * mean(own, 'embedding', 'linear_probe_accuracy'):.1f}",
        plain(mean(own, "embedding", "correlation_mean_abs"), 3),
        plain(mean(own, "embedding", "effective_rank"), 1),
        plain(mean(own, "embedding", "uniformity_centered")),
        plain(mean(own, "map", "uniformity_centered")),
    ]


def _sensors(results: Results) -> str:
    rows = []
    for name, role in dict.fromkeys((r["step"]["name"], r["step"]["role"]) for r in results):
        own = [r for r in results if (r["step"]["name"], r["step"]["role"]) == (name, role)]
        if own[0]["step"]["setting"]["severity"] is None:
            rows.append([f"{name}, {role}", *_row(own)])
    if not rows:
        return "Not measured yet."
    return table(_HEADER, rows) + (
        "\n\nThe two encoders differ (series of joints, sets of radar points), so their numbers compare only with care."
    )


def _moves(students: Results) -> str:
    rows = []
    found = [dict(r) for r in students]
    for name, setting in {r["step"]["name"]: r["step"]["setting"] for r in found}.items():
        own = {who: of(found, name, setting, method, "validation") for who, method in STUDENTS.items()}
        if min(map(len, own.values())) < 2:
            continue
        for metric, label in LIKENESS:
            values = {who: {s: float(r["structure"][metric]) for s, r in by.items()} for who, by in own.items()}
            guide = metric.replace("student_", "teacher_")
            theirs = [r["structure"][guide] for r in own["ds"].values()] if guide != metric else []
            means = [plain(float(np.mean(list(v.values()))), 3) for v in values.values()]
            teacher = plain(float(np.mean(theirs)), 3) if theirs else "1.000"
            change = said(paired(values["ds"], values["kd"]), 3)
            rows.append(
                [f"{name}: {label}", *means, teacher, change, str(len(values["ds"].keys() & values["kd"].keys()))]
            )
    if not rows:
        return "Not measured yet: it is read from the ablation's students."
    header = ["", *STUDENTS, "teacher", "ds - kd, paired, 95 % interval", "seeds"]
    return table(header, rows) + (
        f"\n\nMeans over seeds, on validation pairs. `ds` here is `{STUDENTS['ds']}` and `kd` its KD part alone. The "
        "first three rows of a setting say how like the student is to its teacher on the same pairs (1 is equal), the "
        "others how the student's own structure lies beside its teacher's."
    )


def _ladder_figure(ladders: Results, names: Sequence[str]) -> Figure:
    figure = Figure(figsize=(9.6, 5.4), layout="constrained")
    panels = (
        ("embedding", "linear_probe_accuracy", "linear probe accuracy (%)", 100.0),
        ("embedding", "correlation_mean_abs", "mean |r| of channels, embedding", 1.0),
        ("embedding", "effective_rank", "effective rank, embedding", 1.0),
        ("map", "uniformity", "uniformity, deepest map", 1.0),
        ("map", "uniformity_centered", "uniformity, centered deepest map", 1.0),
        ("embedding", "fisher_ratio", "Fisher ratio, embedding", 1.0),
    )
    for axes, (stage, metric, label, factor) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        for place, name in enumerate(names):
            own = [r for r in ladders if r["step"]["name"] == name]
            severities = sorted({r["step"]["setting"]["severity"] for r in own})
            at = [[r for r in own if r["step"]["setting"]["severity"] == s] for s in severities]
            color, marker = COLORS[place], "os^D"[place % 4]
            axes.plot(severities, [factor * mean(rung, stage, metric) for rung in at], color=color, label=name)
            x, _, steps = columns(own, stage, metric, "linear_probe_accuracy")
            dots = [step["setting"]["severity"] for step in steps]
            axes.plot(dots, factor * x, marker, color=color, markersize=3.5, alpha=0.6, markeredgewidth=0)
        axes.set_xlabel("severity of the degradation")
        axes.set_ylabel(label, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
    figure.axes[0].legend(frameon=False, fontsize=9)
    return figure


def _relation_figure(ladders: Results, stage: str, metric: str, label: str) -> Figure:
    x, y, steps = columns(ladders, stage, metric, "linear_probe_accuracy")
    return relation_figure(x, 100 * y, [s["name"] for s in steps], x_label=label, y_label="linear probe accuracy (%)")
