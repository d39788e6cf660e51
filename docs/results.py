"""Write ``docs/results.md`` and the page of each suite from the stored results, without training.

    python docs/results.py                       # the pages
    python docs/results.py --add runs/study.json # store what `cmkd bench` wrote, then the pages

A suite counts toward the claims if it trains to convergence (``preset: full``) with default options, in float32 or
bfloat16. Claims, tables and the choice of a method are functions of the stored rows; what has no results yet is listed
as missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from baselines import beside, best
from claims import against, by_regime, claims, ranked
from costs import costs
from forms import forms, label_weight, of_new_teachers, other_classes, other_confirmed, other_weights, pair_weight
from observation import observation

from cmkd.bench.figures import gains_figure, ranks_figure
from cmkd.bench.report import markdown
from cmkd.bench.results import ABBREVIATED, read_suite, uncommitted
from cmkd.bench.rows import COLUMNS, STUDENT, of_first_teacher, rising, stored
from cmkd.bench.suite import Suite
from cmkd.bench.table import statistics
from cmkd.datasets.open import without_folder
from cmkd.errors import CmkdError
from cmkd.evaluation import in_points
from cmkd.expression import parse_call
from cmkd.io import write_bytes, write_text
from cmkd.markdown import code, escape, table
from cmkd.methods import METHODS
from cmkd.nested import merged
from cmkd.registry import is_reference
from cmkd.report.figures import draw

Read = tuple[dict[str, Any], Suite, pd.DataFrame]
"""Return type of `read_suite`."""
ROOT = Path(__file__).parents[1]
STORED = ROOT / "benchmarks" / "results"
LARGEST = 10**6
"""Largest size of all stored results together, bytes."""
KEPT = ("suite", "command", "commit", "runs", "failures", "packs", "sources", "options", "columns", "names", "groups")
FEWEST = 3
"""Smallest number of students per method for which a data set and setting counts toward claims and choices."""
DRAWN = ("self_training", "kd", "dist", "ds")
ALL_LABELS = "all_labels"
BFLOAT16 = {"trainer": {"precision": "bf16-mixed"}}
"""Options of a suite whose models all train in bfloat16, which saves time."""
AXES = {
    "gap": "the gap",
    "unlabeled": "the number of pairs without a label",
    "label_fraction": "the number of labels, of both or of the student",
    "label_noise": "label noise",
    "label_noise_rivals": "label noise, with rivals of `ds`",
    "architectures": "unlike architectures",
    "longer": "the number of steps",
    "eurosat_longer": "the number of steps on EuroSAT",
    "cross_fitted": "cross-fitted teachers",
    "fusion": "a teacher that sees both modalities",
    "other_classes": "a teacher of other classes",
    "other_confirmed": "new teachers of other classes",
}
"""Suite -> what its settings or data sets vary; each has a table of gains."""
SAME_LABELS = "Teacher and student see the same labels unless the setting says otherwise."
OTHER_LABELS = (
    "The teacher was trained on every second class, with all labels; the student learns the other classes with a tenth "
    "of the labels. `$OTHER/NAME` is the data set NAME with the classes of the student alone."
)
LABELS = {"other_classes": OTHER_LABELS, "other_confirmed": OTHER_LABELS}
"""Suite -> which labels its teachers and students see, if they do not see the same ones."""
SECTIONS = {
    "ds_forms": forms,
    "label_weight": label_weight,
    "partly_paired": pair_weight,
    "other_weights": other_weights,
    "other_classes": other_classes,
    "other_confirmed": other_confirmed,
}
"""Suite -> function that writes its section."""
INTRODUCTION = (
    "`python docs/results.py` writes this page from the results of [suites](../benchmarks/suites), which are stored in "
    "`benchmarks/results`. Each network was trained until validation accuracy had leveled off, or for 16,000 steps "
    "([how many had not converged](#sources-of-the-results)). [The protocol](protocol.md) describes the rule.\n\n"
    "- A *difference* compares students of the same teacher and seed, in points of test accuracy.\n"
    "- A difference is *clear* if two 95 % intervals exclude 0: Student's interval over teachers with a student each, "
    "and an interval over teachers and test groups ([details](protocol.md)). If there is no true difference, at most "
    "about one in twenty is clear by chance.\n"
    "- UTD-MHAD is tested on four people, spoken digits on one person, and MARS on nine recordings of one person. A "
    "clear difference on the last two is clear for that person only. The windows of a MARS recording are treated as "
    "independent, so the intervals on MARS are too narrow.\n"
    "- A claim *holds* if Student's test over at least three data sets finds a mean above 0 and no comparison is "
    "clearly below 0. It holds *on some data* if a comparison is clearly above 0. For claims, Holm's correction is "
    "applied to the tests over data sets (over all claims) and to the single comparisons of each claim, so fewer "
    "differences are clear than in the tables of gains.\n"
    f"- Data sets and settings with fewer than {FEWEST} students per method count toward no claim and no choice."
)
EARLIER = (
    "## Measured elsewhere\n\n"
    "- [Convergence](../benchmarks/results/convergence.md): each network against four times its own steps.\n"
    "- [Performance](performance.md): what costs time, and how the default weights were chosen.\n"
    "- [Few labels](performance.md#few-labels): how the loss was chosen.\n"
    "- [Calibration](../benchmarks/results/calibration.md).\n"
    "- [Data cards](data_cards.md) list the known problems of each data set. We found and corrected one: the last "
    "recording of person 4 in MARS is movement 10, not 9. With the published label, no model could exceed 90.3 %."
)


def fraction(options: Mapping[str, Any]) -> float | None:
    """Return the label fraction of a setting; None where it has other options, or a label count."""
    return float(options.get("label_fraction", 1.0)) if set(options) <= {"label_fraction"} else None


def pooled(found: Sequence[tuple[Suite, pd.DataFrame]], *, every: bool = False) -> pd.DataFrame:
    """Return the students that count, each once; the setting is the label fraction.

    Args:
        found: suites and their rows.
        every: also count methods with options, and classes that are not in the library.
    """
    parts = [pd.DataFrame(columns=[*COLUMNS, "fraction"])]
    for suite, rows in found:
        if suite.run.get("preset") == "full":
            run = {name: value for name, value in suite.run.items() if name != "preset" and {name: value} != BFLOAT16}
            fractions = {name: fraction(merged(run, options)) for name, options in suite.settings.items()}
            own = rows[rows["method"].isin(METHODS) | every]
            own = own.assign(fraction=own["setting"].map(fractions)).dropna(subset="fraction")
            parts.append(own.assign(setting=[f"{100 * value:g} %" for value in own["fraction"]]))
    rows = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    # suites share students; of duplicates, one whose structure was measured is kept (older rows lack it)
    rows = rows.sort_values("uniformity", key=pd.isna, kind="stable").drop_duplicates(STUDENT)
    return of_first_teacher(rows).sort_index()


def enough(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of methods with at least `FEWEST` students on a data set and setting: fewer support no claim."""
    here = [rows["data"], rows["setting"]]
    alone = rows["method"].eq("none").groupby(here).transform("sum")
    return rows[(alone >= FEWEST) & (rows["method"].groupby([*here, rows["method"]]).transform("size") >= FEWEST)]


def choice(part: pd.DataFrame) -> tuple[str, str, list[str]]:
    """Return the method to use on one data set and setting, its gain on test, and the methods that are as good.

    It is the best method if that is better than `none` at 5 %, corrected by Bonferroni for the number of methods that
    were compared; else `none`. Methods with fewer teachers than others are left out. All choices use validation; test
    is only reported.
    """
    gained = {row["method"]: row for row in against(part, "none")}
    most = max(row["n"] for row in gained.values())
    allowed = {method: row["validation"] for method, row in gained.items() if row["n"] == most}
    best = max(allowed, key=lambda method: float(allowed[method]["mean"]))
    found = allowed[best]
    if found["mean"] <= 0 or found["p_value"] is None or found["p_value"] * len(allowed) >= 0.05:
        return "none", "", []
    others = [row for row in against(part, best) if row["method"] != "none" and row["n"] == most]
    ends = {row["method"]: row["validation"]["interval"] for row in others}
    gain, _ = in_points(gained[best]["test"]["mean"], gained[best]["test"]["interval"])
    return best, gain, [method for method, own in ends.items() if own is None or own[1] >= 0]


def choices(rows: pd.DataFrame) -> str:
    """Return the tables of which method to use when."""
    lines, votes, rows = [], dict[str, list[str]](), rows[~rows["sees_all_labels"].astype(bool)]
    for (data, setting), part in rows.groupby(["data", "setting"], sort=False):
        if not {"none"} < set(part["method"]):
            continue
        best, gain, alike = choice(part)
        votes.setdefault(str(setting), []).append(best)
        lines.append([escape(without_folder(str(data))), str(setting), code(best), gain, ", ".join(map(code, alike))])
    summary = []
    for setting, chosen in votes.items():
        kinds = [METHODS.find(parse_call(name).name) for name in chosen]
        helps = sum(kind.kind != "control" and not kind.fresh_teacher for kind in kinds)
        use = "a teacher" if 2 * helps > len(chosen) else "`none`"
        ranking = leading(ranked(rows[rows["setting"] == setting]))
        summary.append([setting, f"{helps} of {len(chosen)}", ranking, use])
    parts = [
        "## Which method when",
        "*Use* names the method with the largest mean gain over `none` on validation, if that gain is significantly "
        "above 0 (5 %, corrected by Bonferroni for the number of methods), and otherwise `none`. *As good* lists the "
        "methods that are not significantly worse than this method on validation. Methods with fewer teachers than "
        "others are left out. Test pairs are not used for any choice; *gain on test* shows what the chosen method "
        "gained there. *A teacher helps on* counts the data sets on which the chosen method has a trained teacher. "
        "Follow the majority of data sets, and compare with `none` on your own data.",
        table(
            [
                "labels",
                "a teacher helps on (by validation)",
                "best mean rank on test, and methods not significantly worse",
                "use",
            ],
            summary,
            left=1,
        ),
        table(["data", "labels", "use", "gain on test", "as good"], lines),
    ]
    return "\n\n".join(parts)


def leading(ranking: Mapping[str, Any] | None) -> str:
    """Return the method with the best mean rank, and those that Nemenyi's test cannot distinguish from it."""
    if ranking is None or ranking["friedman"] is None:
        return ""
    if ranking["friedman"] >= 0.05:
        return "no significant difference"
    least = ranking["methods"][0]["rank"] + ranking["critical_difference"]
    return ", ".join(f"`{row['method']}` {row['rank']:.1f}" for row in ranking["methods"] if row["rank"] < least)


def drawn(rows: pd.DataFrame, folder: Path) -> str:
    """Draw gains and ranks into ``images`` in a folder, and return the lines that show them."""
    found = [row for row in against(rows, "none") if row["test"]["interval"]]
    settings = list(dict.fromkeys(row["setting"] for row in found))
    shown = ["## Pictures"]
    if settings:
        write_bytes(folder / "images" / "results-gains.svg", draw(gains_figure(found, settings, DRAWN), "svg"))
        shown.append("![Gain over the student alone by data set and labels](images/results-gains.svg)")
    ranking = ranked(enough(rows))
    if ranking and ranking["critical_difference"]:
        write_bytes(folder / "images" / "results-ranks.svg", draw(ranks_figure(ranking), "svg"))
        shown.append("Mean ranks where every method was trained. A bar joins methods that do not differ significantly:")
        shown.append("![Mean ranks of the methods](images/results-ranks.svg)")
    return "\n\n".join(shown) if len(shown) > 1 else ""


def gains(
    title: str, rows: pd.DataFrame, setting: str, shown: Sequence[str] | None = None, labels: str = SAME_LABELS
) -> str:
    """Return a table of gains over `none` by data set and setting.

    Args:
        title: title of the section.
        rows: rows of students.
        setting: heading of the column of settings.
        shown: methods to show; all by default.
        labels: sentence that says which labels teacher and student see.
    """
    found = {(row["data"], row["setting"], row["method"]): row for row in against(rows, "none")}
    there = dict.fromkeys(rows["method"])
    methods = [name for name in shown or there if name in there and name != "none"]
    models = [name for name in ("teacher_test", "test") if rows[name].notna().any()]
    lines = []
    for (data, name), part in rows.groupby(["data", "setting"], sort=False):
        alone = part[part["method"] == "none"]
        if not len(alone):
            continue
        cells = [escape(without_folder(str(data))), escape(str(name)), str(len(alone))]
        cells += ["" if np.isnan(mean) else f"{100 * mean:.1f}" for mean in alone[models].mean()]
        for method in methods:
            row = found.get((data, name, method))
            said, sure = (
                in_points(row["test"]["mean"], row["test"]["interval"], row["over_groups"]["interval"])
                if row
                else ("", False)
            )
            fewer = f", n = {row['n']}" if row and row["n"] != len(alone) else ""
            cells.append((f"**{said}**" if sure else said) + fewer)
        lines.append(cells)
    header = ["data", setting, "n", *["teacher", "none"][-len(models) :], *map(code, methods)]
    text = (
        f"{labels} Cells show the gain over `none` for n students, unless the cell gives another n. Bold: both "
        "intervals exclude 0."
    )
    if ALL_LABELS in methods:
        text += f" `{ALL_LABELS}` is the student alone with every label; it shows how much the missing labels cost."
    return "\n\n".join([f"## {title}", text, table(header, lines, left=2)])


def with_all_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the student alone with all labels, as the method `ALL_LABELS`, to the settings with fewer labels."""
    alone = rows[(rows["fraction"] == 1) & (rows["method"] == "none")]
    few = rows.loc[rows["fraction"] < 1, ["data", "setting", "fraction"]].drop_duplicates()
    labeled = alone.drop(columns=["setting", "fraction"]).merge(few, on="data").assign(method=ALL_LABELS)
    return pd.concat([rows, labeled[rows.columns]], ignore_index=True).drop_duplicates(STUDENT)


def about(path: Path, content: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """Return a line about the stored results of one suite."""
    done, planned = content["runs"]["complete"], content["runs"]["all"]
    commits = ", ".join(sorted({str(commit)[:10] for commit in rows["commit"]}))
    late = f"; not converged (student or teacher): {count}" if (count := rising(rows)) else ""
    unsure = int(rows["teacher_converged"].isna().sum())
    late += f"; for {unsure} students, the teacher's convergence was not recorded" if unsure else ""
    page = f"[{escape(path.stem)}](../benchmarks/results/{path.stem}.md)"
    trained = f"{len(rows)} students, {done} of {planned} runs, commit {commits}{late}"
    return f"- {page}: {code(content['command'])}, {trained}"


def page(read: Mapping[Path, Read], stored: Path, folder: Path) -> str:
    """Return the page from the suites that were read from `stored`; its pictures go to ``images`` in `folder`."""
    # four gaps of one data set are not four data sets, and suites that chose the loss do not count for methods
    chose = {name for name, section in SECTIONS.items() if section is not forms}
    found = [(suite, own) for path, (_, suite, own) in read.items() if path.stem not in {*AXES, *chose}]
    rows = pooled(found)
    counted = enough(rows)
    parts = ["# How much a teacher gives", INTRODUCTION, claims(counted), by_regime(counted, "ds")]
    if len(rows):
        ordered = with_all_labels(rows).sort_values("fraction", kind="stable")
        by_labels = gains("Gain against the number of labels", ordered, "labels", (*DRAWN, ALL_LABELS))
        parts += [
            choices(counted),
            by_labels,
            drawn(rows, folder),
            costs(counted[~counted["sees_all_labels"].astype(bool)], stored / "step.json"),
            beside(rows, best(stored / "simple_baselines.json")),
        ]
    for name, section in SECTIONS.items():
        parts += [section(own) for path, (_, _, own) in read.items() if path.stem == name]
    for name, axis in AXES.items():
        for own in (own for path, (_, _, own) in read.items() if path.stem == name):
            counting = of_new_teachers(own) if name == "other_classes" else own
            parts.append(gains(f"Gain and {axis}", counting, "setting", labels=LABELS.get(name, SAME_LABELS)))
    if read:
        parts += [
            "## Sources of the results",
            "\n".join(about(p, content, own) for p, (content, _, own) in read.items()),
        ]
    names = {path.stem for path in (ROOT / "benchmarks" / "suites").glob("*.yaml")} - {path.stem for path in read}
    missing = [f"the suite {code(name)}" for name in sorted(names - {"smoke"})]
    if not (seen := observation(pooled(found, every=True))):
        missing.append("whether structure goes with discriminability, on converged networks")
    parts += [seen, "## Not measured yet", "\n".join(f"- {line}" for line in missing)]
    return "\n\n".join(filter(None, [*parts, EARLIER])) + "\n"


def add(path: Path, folder: Path) -> None:
    """Store the results of a suite without its statistics, one row per line.

    Raises:
        CmkdError: students were trained with uncommitted changes, or the stored results become too large.
    """
    content, _, rows = read_suite(path)
    if found := uncommitted(rows):
        raise CmkdError(f"'{path}' cannot be stored: {'; '.join(found)}")
    content |= stored(rows.assign(commit=rows["commit"].str[:ABBREVIATED]))
    content["sources"] = {name: now for name, now in content.get("sources", {}).items() if is_reference(name)}
    short = [[float(f"{cell:.6g}") if isinstance(cell, float) else cell for cell in row] for row in content["rows"]]
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in short)
    kept = json.dumps({name: content[name] for name in KEPT if name in content}, separators=(",", ":"))
    text = f'{kept[:-1]},"rows":[\n{lines}\n]}}\n'
    others = sum(p.stat().st_size for p in folder.glob("*.json") if p.name != path.name)
    if others + len(text) > LARGEST:
        raise CmkdError(f"with '{path}', the stored results have more than {LARGEST // 1000} KB; leave a suite out")
    write_text(folder / path.name, text)


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--add", type=Path, action="append", default=[], help="a JSON file that cmkd bench wrote")
    parser.add_argument("--stored", type=Path, default=STORED)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.md"))
    given = parser.parse_args()
    try:
        for path in given.add:
            add(path, given.stored)
        suites = [path for path in sorted(given.stored.glob("*.json")) if '"suite"' in path.read_text("utf-8")[:20]]
        read = {path: read_suite(path) for path in suites}
        for path, (content, suite, rows) in read.items():
            write_text(path.with_suffix(".md"), markdown(path.stem, content | statistics(rows, suite)))
        write_text(given.out, page(read, given.stored, given.out.parent))
    except CmkdError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
