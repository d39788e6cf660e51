"""``cmkd run``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from rich.console import Console
from rich.table import Table

from cmkd.cli import RUN_FOLDER
from cmkd.cli.parsing import Parser, metavar
from cmkd.config import EXAMPLE, ModelConfig, RunConfig, StudentConfig, TeacherConfig
from cmkd.documents import read_yaml
from cmkd.errors import CmkdError
from cmkd.expression import parse_sum
from cmkd.io import expanded
from cmkd.options import build, documented, fits, from_text, option_types, parameters
from cmkd.progress import busy, screen
from cmkd.training.display import style

SHORT = {"--devices": "--trainer.devices", "--batch_size": "--trainer.batch_size"}
"""Short flag -> the flag that it stands for."""
MODELS = ("teacher", "student")
"""Groups of options for which a file may give just the name of the model."""
JSON, QUIET = "--json", "--quiet"
METHOD_FLAG = "--method_options."
WIDTH = 118
"""Width of the help in columns."""


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    if {"-h", "--help"} & set(arguments):
        print(usage())
        return
    config = parse(arguments)
    with _results_alone() if JSON in arguments else nullcontext(), screen(style(config.trainer)) as on:
        with busy(on, f"cmkd run: {config.data}, methods {','.join(config.expressions)}: loading PyTorch"):
            from cmkd.experiment import Experiment
        try:
            results = Experiment(config).run()
        except Exception as error:
            vars(error)[RUN_FOLDER] = config.out
            raise
    from cmkd.distributed import leads

    if not leads():
        return
    if JSON in arguments:
        print(json.dumps(results, indent=2))
    else:
        _print(results, config.out)


def _print(results: dict[str, Any], out: Path) -> None:
    """Print the tables of a run, and the paths of its other results."""
    from cmkd.deploy.student import STUDENT
    from cmkd.report.page import chosen_options, chosen_student

    console = Console(soft_wrap=not sys.stdout.isatty(), markup=False, emoji=False)
    console.print(table(results))
    if any("subsets" in student for student in results["students"]):
        console.print(subset_table(results))
    for tuned in results["tuned"]:
        print(chosen_options(tuned))
    if results["recommended"]:
        print(f"{chosen_student(results)}: {out / STUDENT}")
    print(f"report: {out / 'report.html'}")


@contextmanager
def _results_alone() -> Iterator[None]:
    """Redirect stdout to stderr in the block, for this process, compiled code and the processes it starts."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def parse(arguments: Sequence[str]) -> RunConfig:
    """Read a configuration from flags and ``--config FILE``; flags take precedence.

    Raises:
        CmkdError: if a flag is unknown, or a value has another type.
    """
    parser, hints = Parser("cmkd run", "Train a teacher and students."), _flags(RunConfig)
    parser.add_argument("--config")
    for flag in (JSON, QUIET):
        parser.add_argument(flag, action="store_true")
    for flag in hints:
        parser.add_argument(f"--{flag}", metavar=metavar(hints[flag]))
    words = [_long(word) for word in arguments]
    given = parser.parse([word for k, word in enumerate(words) if not _of_method(words, k)])
    values: dict[str, Any] = read_yaml(expanded(given.pop("config")), example=EXAMPLE) if "config" in given else {}
    given.pop(JSON.lstrip("-"), None)
    if given.pop(QUIET.lstrip("-"), False):
        _put(values, ["trainer", "progress"], "none")
    for flag, text in given.items():
        _put(values, flag.split("."), from_text(text, hints[flag]))
    for k, word in enumerate(words):
        if word.startswith(METHOD_FLAG):
            flag, equals, text = word.partition("=")
            if not equals and k + 1 == len(words):
                raise CmkdError(f"{flag} needs a value")
            _put_method_option(values, flag, text if equals else words[k + 1])
    config = build(RunConfig, values)
    for word in words:
        if word.startswith(METHOD_FLAG):
            _check_effect(word.partition("=")[0], config)
    return config


def _check_effect(flag: str, config: RunConfig) -> None:
    """Refuse an option of a method that is not in the run, or that is already set where the method is named."""
    method, _, option = flag.removeprefix(METHOD_FLAG).rpartition(".")
    named = ",".join(config.expressions)
    calls = [call for expression in config.expressions for call in parse_sum(expression) if call.name == method]
    if not calls:
        raise CmkdError(f"{flag} has no effect: {method} is not in --methods {named}; add it, or leave the option out")
    if all(option in call.options for call in calls):
        raise CmkdError(f"{flag} has no effect: --methods {named} sets {option} itself; give it in one place")


def _of_method(words: Sequence[str], k: int) -> bool:
    """Return whether a word is an option of a method, or the value of one."""
    before = words[k - 1] if k else ""
    return words[k].startswith(METHOD_FLAG) or (before.startswith(METHOD_FLAG) and "=" not in before)


def _put_method_option(values: dict[str, Any], flag: str, text: str) -> None:
    from cmkd.methods import METHODS

    method, _, option = flag.removeprefix(METHOD_FLAG).rpartition(".")  # your own method has dots: package.module:Name
    if not method or ":" in option:
        raise CmkdError(f"{flag} names no option of a method; write {METHOD_FLAG}NAME.OPTION VALUE")
    known = METHODS.find(method)
    hint = option_types(known).get(option, str) if option in parameters(known) else str
    _put(values, ["method_options", method, option], from_text(text, hint))


def _put(values: dict[str, Any], path: Sequence[str], value: object) -> None:
    for key in path[:-1]:
        inner = values.get(key)
        if inner is None:  # an empty `trainer:` in a file, and a flag for one of its options
            inner = values[key] = {}
        elif not isinstance(inner, dict):
            if key not in MODELS:
                return  # not a group: `build` refuses it
            inner = values[key] = {"model": inner}
        values = inner
    values[path[-1]] = value


def _flags(cls: type[Any], prefix: str = "") -> dict[str, Any]:
    """Return the flags of a configuration, such as ``teacher.size``, with their types, without methods' options."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(cls).items():
        if is_dataclass(hint) and isinstance(hint, type):
            found |= _flags(hint, f"{prefix}{name}.")
        elif name != "method_options":
            found[prefix + name] = hint
    return found


def usage() -> str:
    """Return the text of ``cmkd run --help``."""
    lines = [
        "usage: cmkd run --data DATA --out FOLDER [OPTIONS]",
        "",
        "Train a teacher on the rich modality, then a student for each method and seed on the poor one.",
        "",
        f"  {'--config FILE':38}a YAML file with any of these options, such as config.yaml of a run",
        f"  {JSON:38}print the results as JSON, and nothing else, on stdout",
        f"  {QUIET:38}show no progress; short for --trainer.progress none",
        *_help(RunConfig),
    ]
    for field in fields(RunConfig):
        hint = get_type_hints(RunConfig)[field.name]
        if is_dataclass(hint) and isinstance(hint, type) and not issubclass(hint, ModelConfig):
            lines += ["", f"{field.name}: {documented(RunConfig)[1][field.name]}", *_help(hint, f"{field.name}.")]
        elif field.name == "teacher":
            lines += [
                "",
                "teacher and student: these flags also exist with --student.",
                *_help(ModelConfig, "teacher."),
                "",
                "teacher only",
                *_help(TeacherConfig, "teacher.", without=ModelConfig),
                "",
                "student only",
                *_help(StudentConfig, "student.", without=ModelConfig),
            ]
    lines += [
        "",
        "one option of a method; `cmkd methods NAME` lists them",
        f"  {METHOD_FLAG + 'NAME.OPTION VALUE':38}such as {METHOD_FLAG}kd.temperature 2",
        "",
        f"Short: {', '.join(f'{short} for {flag}' for short, flag in SHORT.items())}. See README for examples.",
    ]
    return "\n".join(lines)


def _help(cls: type[Any], prefix: str = "", *, without: type[Any] | None = None) -> list[str]:
    """Return a line for each plain field: its flag, and its documentation up to the first full stop."""
    texts, hints, lines = documented(cls)[1], get_type_hints(cls), []
    known = {field.name for field in fields(without)} if without else {"method_options"}
    for field in fields(cls):
        if is_dataclass(hints[field.name]) or field.name in known:
            continue
        said = texts[field.name].split(". ")[0].removesuffix(".").replace("`", "")
        if field.default not in (MISSING, None) and fits(field.default, hints[field.name]):
            said += f" (default: {field.default})"
        flag = f"  --{prefix}{field.name} {metavar(hints[field.name])}"
        lines.append(f"{flag:40}{said}" if len(flag) < 40 else f"{flag} {said}")
    return lines


def _long(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return SHORT.get(flag, flag) + equals + value


def table(results: dict[str, Any]) -> Table:
    """Return the table of a run: teacher, then methods with mean, spread, n and the gain over ``none``."""
    from cmkd.evaluation import in_points
    from cmkd.report.page import labels_seen, not_converged

    data, seen = results["data"], labels_seen(results["data"]["labels"])
    pairs = f"{data['pairs']['test']} pairs"
    if not data["same_test_pairs"]:
        pairs += f", the teacher {results['teacher']['test_pairs']} pairs"
    title = f"{data['name']}: test accuracy in % ({pairs}), at most {results['epochs']} epochs"
    made = Table(title=f"{title}; {seen}" if seen else title, caption=not_converged(results) or None)
    for column in ("model", "sees"):
        made.add_column(column, overflow="fold")
    for column in ("mean", "sd", "n", "gain over none, 95 % interval"):
        made.add_column(column, justify="right", overflow="fold")
    teacher = results["teacher"]
    unknown = "other classes" if "classes" in teacher else "not known"
    known = unknown if teacher["test_accuracy"] is None else f"{100 * teacher['test_accuracy']:.1f}"
    made.add_row("teacher", data["rich"], known, "", "1", "")
    for row in results["summary"]:
        gain = "control, sees all labels" if row.get("sees_all_labels") else ""
        if "gain" in row:
            gain, _ = in_points(row["gain"], row.get("gain_interval"))
        spread = "" if row["sd"] is None else f"{100 * row['sd']:.1f}"
        made.add_row(row["method"], data["poor"], f"{100 * row['mean']:.1f}", spread, str(row["n"]), gain)
    return made


def subset_table(results: dict[str, Any]) -> Table:
    """Return the table of students that see several modalities: the accuracy of each method with each subset."""
    from cmkd.evaluation import by_subset

    rows = by_subset(results["students"])
    made = Table(title=f"{results['data']['name']}: test accuracy in % with each subset of modalities")
    made.add_column("model", overflow="fold")
    for subset in rows[0]["mean"]:
        made.add_column(subset, justify="right", overflow="fold")
    for row in rows:
        made.add_row(row["method"], *(f"{100 * mean:.1f}" for mean in row["mean"].values()))
    return made
