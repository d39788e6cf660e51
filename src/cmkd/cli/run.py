"""``cmkd run``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from cmkd.cli.parsing import parse
from cmkd.config import RunConfig

SHORT = {"--devices": "--trainer.devices", "--batch_size": "--trainer.batch_size"}
"""Flags that many type, and the ones they stand for."""


def parser() -> ArgumentParser:
    """Return the parser: the fields of `RunConfig`, and for each method its hyperparameters."""
    from cmkd.methods import METHODS
    from cmkd.options import parameters

    made = ArgumentParser(
        prog="cmkd run",
        exit_on_error=False,
        allow_abbrev=False,
        description="Train a teacher on the rich modality, then a student for each method and seed on the poor one.",
        epilog=f"Short: {', '.join(f'{short} for {flag}' for short, flag in SHORT.items())}.",
    )
    made.add_argument(
        "--config", action="config", help="a YAML file with any of these options, such as config.yaml of a run"
    )
    made.add_class_arguments(RunConfig)
    for name, method in METHODS.items():
        if parameters(method):
            made.add_class_arguments(method, name, skip={"student", "teacher"}, instantiate=False)
    return made


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    given = parse(parser(), [_long(argument) for argument in arguments]).as_dict()
    given.pop("config", None)
    values = {name: given.pop(name) for name in RunConfig.__dataclass_fields__}
    config = _build(RunConfig, values)
    results = _run(config, given)
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print(table(results))
    print(f"report: {Path(config.out) / 'report.html'}")


def _long(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return SHORT.get(flag, flag) + equals + value


def _build(cls: type[Any], values: dict[str, Any]) -> Any:  # noqa: ANN401  # any of the dataclasses
    """Make a dataclass from nested dictionaries that were checked against it."""
    types = get_type_hints(cls)
    return cls(**{k: _build(types[k], v) if is_dataclass(types[k]) else v for k, v in values.items()})


def _run(config: RunConfig, options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    from cmkd.experiment.runner import Experiment
    from cmkd.report import write_report

    results = Experiment(config, options).run()
    write_report(Path(config.out))
    return results


def table(results: dict[str, Any]) -> Table:
    """Return the table of a run: teacher, then methods with mean, spread, n and the gain over ``none``."""
    data = results["data"]
    labels = data["labeled"]["student"]
    made = Table(
        title=f"{data['name']}: test accuracy in % ({data['pairs']['test']} pairs), {results['epochs']} epochs"
        + (f", students see {labels} of {data['pairs']['train']} labels" if labels < data["pairs"]["train"] else "")
    )
    for column, justify in (
        ("model", "left"),
        ("sees", "left"),
        ("mean", "right"),
        ("sd", "right"),
        ("n", "right"),
        ("gain over none, 95 % interval", "right"),
    ):
        made.add_column(column, justify=justify)  # type: ignore[arg-type]
    teacher = results["teacher"]
    known = "other classes" if teacher["test_accuracy"] is None else f"{100 * teacher['test_accuracy']:.1f}"
    made.add_row("teacher", data["rich"], known, "", "1", "")
    for row in results["summary"]:
        gain = "" if "gain" not in row else f"{100 * row['gain']:+.1f}"
        if row.get("gain_interval"):
            gain += f" ({100 * row['gain_interval'][0]:+.1f} to {100 * row['gain_interval'][1]:+.1f})"
        spread = "" if row["sd"] is None else f"{100 * row['sd']:.1f}"
        made.add_row(row["method"], data["poor"], f"{100 * row['mean']:.1f}", spread, str(row["n"]), gain)
    return made
