"""Write ``ablation.md`` from the stored results of the ablation, and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ablation import chosen, of
from documents import about, paired, said, spread, table
from trials import CHOICE, CONFIRM, PARTS, REFERENCE, SETTINGS, expression, families

from cmkd.io import write_text

Results = list[dict[str, Any]]


def write(source: Path, out: Path) -> Path:
    """Write the document.

    Args:
        source: ``ablation.json``.
        out: folder of ``ablation.md``.
    """
    stored = json.loads(source.read_text(encoding="utf-8"))
    results: Results = stored["results"]
    there = {result["step"]["name"]: result["step"]["setting"] for result in results}
    settings = {name: there[name] for name in SETTINGS if name in there}
    every = {name: found for name, setting in settings.items() if (found := _confirmed(results, name, setting))}
    confirmed = {name: found for name, found in every.items() if "kd" in found["tests"]}
    strangers = {name: found for name, found in every.items() if "kd" not in found["tests"]}
    text = "\n\n".join(
        [
            "# Which part of dimensional structure helps, and where",
            _lead(confirmed, strangers),
            "## Against KD and DIST tuned with the same budget, on test pairs",
            _headline(confirmed),
            _legend(),
            "## A teacher of other classes, on test pairs",
            *_strangers(strangers),
            "## Part by part, on validation pairs",
            *_parts(results, settings),
            "## What the choice was made from",
            _choices(results, settings),
            "## Settings",
            _settings({name: settings[name] for name in every}),
            "## What this does not show",
            _limits(every),
            "## How to repeat it",
            "`make docs-studies DATA=FOLDER` trains everything, or continues, and writes this page and its figures; "
            "`python benchmarks/ablation.py --write-only` writes it from `benchmarks/results/ablation.json`.",
            about(stored["about"]),
        ]
    )
    path = out / "ablation.md"
    write_text(path, text + "\n")
    return path


def _confirmed(results: Results, name: str, setting: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the test accuracies by seed of none and of what each method chose; None before all are there."""
    best = chosen(results, name, setting)
    if best is None:
        return None
    rows = {family: of(results, name, setting, method, "test") for family, method in best.items()}
    if min(map(len, rows.values())) < 2:
        return None
    tests = {family: {seed: r["test"] for seed, r in found.items()} for family, found in rows.items()}
    teacher = {seed: r["teacher"] for found in rows.values() for seed, r in found.items()}
    return {"best": best, "tests": tests, "teacher": teacher}


def _gain(found: Mapping[str, Any], ours: str, theirs: str) -> dict[str, Any] | None:
    return paired(found["tests"].get(ours, {}), found["tests"].get(theirs, {}), scale=100)


def _lead(confirmed: Mapping[str, Any], strangers: Mapping[str, Any]) -> str:
    gains = {name: gain for name, found in confirmed.items() if (gain := _gain(found, "ds", "kd"))}
    above = [name for name, gain in gains.items() if gain["sure"] == "above"]
    below = [name for name, gain in gains.items() if gain["sure"] == "below"]
    harmed = [n for n, f in confirmed.items() if (g := _gain(f, "kd", "none")) and g["sure"] == "below"]
    over_none = [n for n, f in confirmed.items() if (g := _gain(f, "ds", "none")) and g["sure"] == "above"]
    sentences = [
        f"`ds` was compared with `kd`, and with `dist`, in {len(gains)} settings. All chose among equally many weights "
        f"on validation pairs (seeds {CHOICE[0]} to {CHOICE[-1]}, or three of them and half as many weights where "
        "training is slow), and the choices met once on the test pairs (seeds "
        f"from {CONFIRM[0]} on).",
        f"**`ds` surely beats tuned `kd` in {len(above)} of {len(gains)} settings"
        + (f" ({'; '.join(above)})" if above else "")
        + f", is surely below it in {len(below)}"
        + (f" ({'; '.join(below)})" if below else "")
        + f", and the difference is within the noise of training in {len(gains) - len(above) - len(below)}.**",
        f"Against a student without a teacher, `ds` surely gains in {len(over_none)} of {len(gains)}"
        + (
            f"; in {'; '.join(harmed)} the teacher's own logits harm, and the best of `kd` is below no teacher."
            if harmed
            else "."
        ),
    ]
    if gains:
        middle = float(np.mean([gain["mean"] for gain in gains.values()]))
        sentences.append(
            f"The mean difference of `ds` to `kd` over the settings is {middle:+.2f} points. With {len(gains)} "
            f"intervals of 95 %, about {0.05 * len(gains):.1f} would exclude zero by chance alone."
        )
    if gains and not above:
        sentences.append(
            "So at these sizes the structure terms add nothing that can be told from noise to a KD term whose weight "
            "and temperature were tuned. This is what the table shows, not what was hoped for."
        )
    kin = {name: gain for name, found in confirmed.items() if (gain := _gain(found, "ds", "dist"))}
    if kin:
        sure = {which: [name for name, gain in kin.items() if gain["sure"] == which] for which in ("above", "below")}
        sentences.append(
            f"Against `dist`, which correlates predictions too and whose relation within a class is the diagonal of "
            f"the independence of class probabilities, `ds` is surely above in {len(sure['above'])} of {len(kin)}"
            + (f" ({'; '.join(sure['above'])})" if sure["above"] else "")
            + f" and surely below in {len(sure['below'])}"
            + (f" ({'; '.join(sure['below'])})." if sure["below"] else ".")
        )
    if strangers:
        sentences.append(
            "Where the teacher knows other classes no logits can be matched, and of `ds` the uniformity is left."
        )
    for name, found in strangers.items():
        others = [family for family in found["tests"] if family not in ("none", "ds")]
        gains = {other: gain for other in others if (gain := _gain(found, "ds", other))}
        better = [f"`{other}`" for other, gain in gains.items() if gain["sure"] == "above"]
        worse = [f"`{other}`" for other, gain in gains.items() if gain["sure"] == "below"]
        gain = _gain(found, "ds", "none")
        harms = gain is not None and gain["sure"] == "below"
        sentences.append(
            f"On {name.partition(',')[0]} it {'harms: ' if harms else 'gives '}{said(gain)} points over no teacher; of "
            f"{len(others)} tuned methods of features and relations it is surely above {', '.join(better) or 'none'}, "
            f"and surely below {', '.join(worse) or 'none'}."
        )
    return " ".join(sentences)


def _headline(confirmed: Mapping[str, Any]) -> str:
    rows = []
    for name, found in confirmed.items():
        tests = found["tests"]
        rows.append(
            [
                name,
                spread(list(found["teacher"].values())),
                *(spread(list(tests[f].values())) if f in tests else "—" for f in ("none", "kd", "dist", "ds")),
                said(_gain(found, "kd", "none")),
                said(_gain(found, "ds", "kd"), 2),
                said(_gain(found, "ds", "dist"), 2),
                str((_gain(found, "ds", "kd") or {"n": 0})["n"]),
            ]
        )
    chosen_of = ("kd, chosen", "dist, chosen", "ds, chosen")
    header = ["setting", "teacher, rich", "none", *chosen_of, "kd - none", "ds - kd", "ds - dist", "seeds"]
    return table(header, rows)


def _strangers(strangers: Mapping[str, Any]) -> list[str]:
    if not strangers:
        return ["Not measured yet."]
    intro = (
        "The teacher was trained on the first half of the classes with all its labels; the student has few labels of "
        "the second half, and all pairs. `kd` and the independence of class probabilities have nothing to match; of "
        "`ds` the uniformity is left. Each method chose among four forms on validation pairs."
    )
    tables = []
    for name, found in strangers.items():
        rows = [
            [
                f"`{method}`",
                spread(list(found["tests"][family].values())),
                "" if family == "none" else said(_gain(found, family, "none")),
                "" if family == "ds" else said(_gain(found, "ds", family)),
                str(len(found["tests"][family])),
            ]
            for family, method in found["best"].items()
        ]
        tables.append(table([name, "test (%)", "to none", "ds to it", "seeds"], rows))
    return [intro, *tables]


def _legend() -> str:
    return (
        "Test accuracy in percent, mean ± standard deviation over seeds. Differences are paired by seed: one seed "
        "gives the same teacher, first weights and order of pairs to all three. In brackets Student's 95 % interval of "
        "the mean; bold where it excludes zero. It covers the chance of training, not that of drawing other test pairs."
    )


def _parts(results: Results, settings: Mapping[str, Any]) -> list[str]:
    found = []
    for name, setting in settings.items():
        reference = _validation(results, name, setting, REFERENCE)
        base = _validation(results, name, setting, expression({}))
        rows = []
        for label, changes in PARTS.items():
            own = _validation(results, name, setting, expression(changes))
            if len(own) >= 2:
                rows.append(
                    [
                        label,
                        spread(list(own.values())),
                        said(paired(own, reference, scale=100)),
                        "" if label == "ds as the base" else said(paired(own, base, scale=100)),
                        str(len(own)),
                    ]
                )
        if len(rows) > len(PARTS) // 2:
            none = _validation(results, name, setting, "none")
            for label, own in (("kd alone, as in the base", reference), ("none", none)):
                rows.append([label, spread(list(own.values())), "", said(paired(own, base, scale=100)), str(len(own))])
            header = [name, "validation (%)", "to kd alone", "to the base", "seeds"]
            found.append(table(header, rows))
            found += _idle(results, name, setting)
    if not found:
        return ["Not enough of the parts were trained to compare them."]
    intro = (
        f"The base is `{expression({})}` with the method's other defaults; each row changes what it says. The "
        f"reference is its KD part alone, `{REFERENCE}`. Validation accuracy, differences paired by seed."
    )
    return [intro, *found]


def _idle(results: Results, name: str, setting: Mapping[str, Any]) -> list[str]:
    """Say where the hinge changed nothing at all: it was never pulled."""
    hinged, without = PARTS["uniformity: hinge to the teacher's"], PARTS["no uniformity"]
    ours, theirs = (_validation(results, name, setting, expression(changes)) for changes in (hinged, without))
    if len(ours) < 2 or ours != theirs:
        return []
    return [
        f"On {name} the *hinge* and *no uniformity* agree to the last digit in all {len(ours)} seeds: at no step was "
        "the student less uniform than its teacher, so the hinge had nothing to do."
    ]


def _validation(results: Results, name: str, setting: Mapping[str, Any], method: str) -> dict[int, float]:
    return {seed: r["validation"] for seed, r in of(results, name, setting, method, "validation").items()}


def _choices(results: Results, settings: Mapping[str, Any]) -> str:
    pieces = []
    for name, setting in settings.items():
        best = chosen(results, name, setting)
        if best is None:
            continue
        rows = []
        for method in ("none", *(m for methods in families(name).values() for m in methods)):
            values = [v for s, v in _validation(results, name, setting, method).items() if s in CHOICE]
            mark = " ← chosen" if method in best.values() and method != "none" else ""
            if values:
                rows.append([f"`{method}`{mark}", spread(values), str(len(values))])
        pieces.append(table([name, "validation (%)", "seeds"], rows))
    return "\n\n".join(["The best mean accuracy is chosen; ties go to the lower log-loss.", *pieces])


def _settings(settings: Mapping[str, Any]) -> str:
    columns = ("severity", "pairs", "labeled", "teacher_width", "student_width", "epochs", "batch")
    rows = [
        [name, f"`{setting['data']}`", *(_cell(column, setting[column]) for column in columns)]
        for name, setting in settings.items()
    ]
    header = ["setting", "data", "severity", "pairs", "labels", "teacher's width", "student's", "epochs", "batch"]
    return "\n\n".join(
        [
            table(header, rows),
            "Severity is that of `cmkd.datasets.degradations.speckle` (blur, speckle, receiver noise); without one, the poor "
            "modality is the data set's own sensor. Images go through a CNN of three convolutions, a linear embedding "
            "and a linear classifier (widths 16, 32, 64, 64 unless stated), SGD with one cycle; `mars` through the "
            "library's small encoders with AdamW. No augmentation. Every student makes the same number of steps. "
            "*100 classes* puts two images of one split side by side: the class is the ordered pair of theirs.",
        ]
    )


def _cell(column: str, value: float | None) -> str:
    if column in ("pairs", "labeled") and not value:
        return "all"
    return "—" if value is None else f"{value:g}"


def _limits(confirmed: Mapping[str, Any]) -> str:
    seeds = sorted({len(found["tests"]["ds"]) for found in confirmed.values()})
    missing = [name for name in SETTINGS if name not in confirmed]
    unfinished = f"Planned and not yet trained to the end: {'; '.join(missing)}. " if missing else ""
    return unfinished + (
        f"Networks and data are small, and seeds are few ({', '.join(map(str, seeds))} a setting on the test pairs, "
        "three or five for each choice): what a large backbone would say is open. `ds` was tried at one "
        "temperature and `dist` at three. The forms of `ds` were found on "
        "validation pairs of `digits`, `fashion_mnist` and `mars` (seeds 0 to 7); an earlier version, with the "
        "independence of the embedding and the hinge, had met the test pairs of the first five settings and was not "
        "above `kd` in any: those pairs are not new to the method, though nothing was chosen on them. The "
        "validation pairs of `mars` come from a person of the training set and say little about the person that is "
        "tested. `few labels` gives the teacher no more labels than the student."
    )
