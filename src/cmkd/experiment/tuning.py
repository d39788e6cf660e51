"""Tune the weights and temperatures of a method on the validation pairs, with Optuna trials kept in a JSON file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.config import RunConfig
from cmkd.documents import read_json, record
from cmkd.errors import CmkdError, DivergedError, needs_extra
from cmkd.evaluation.results import AGAIN
from cmkd.expression import Call, parse_sum, written
from cmkd.io import write_json
from cmkd.methods import METHODS
from cmkd.options import check, fits, option_types

TUNED = ("temperature", "beta", "gamma")
"""Options that are tuned in addition to those with `weight` in their names."""
FACTOR, TEMPERATURE_FACTOR = 8.0, 4.0
"""Largest factor of change in either direction: of temperatures (second), and of all other options (first)."""
LOWEST_TEMPERATURE = 0.5
"""Lowest temperature to try, unless the given one is lower: below it, targets are nearly one-hot."""
ACCURACY, LOSS = "validation_accuracy", "validation_log_loss"
"""Result entries of a student: the objective to maximize, and the tie-breaker to minimize."""

Options = Mapping[str, float]
"""Options of the methods in an expression, such as ``{"kd.temperature": 2.5}``."""
Train = Callable[[Options], Mapping[str, Any]]
"""Function that trains a student with options and returns its results."""


@dataclass(frozen=True)
class Range:
    """Search range of an option.

    Args:
        value: the given value, or the default.
        low: the lowest value to try.
        high: the highest value to try.
    """

    value: float
    low: float
    high: float


def check_installed() -> None:
    """Check that Optuna is installed.

    Raises:
        CmkdError: Optuna is missing; the message names the extra to install.
    """
    with needs_extra("tune", "--tune"):
        import optuna  # noqa: F401


def ranges(expression: str, given: Mapping[str, Mapping[str, Any]]) -> dict[str, Range]:
    """Return the options to tune in a method or sum: weights, ``temperature``, ``beta`` and ``gamma`` that are above 0.

    Args:
        expression: the method or sum; the options written in it are not tuned.
        given: method -> option -> value, for options that differ from the defaults.

    Example:
        >>> ranges("kd(temperature=2)+0.5*rkd", {"kd": {"weight": 1.0}})
        {'kd.weight': Range(value=1.0, low=0.125, high=8.0),
         'rkd.distance_weight': Range(value=2.5, low=0.312, high=20.0),
         'rkd.angle_weight': Range(value=5.0, low=0.625, high=40.0)}
    """
    found = {}
    for label, call in _labeled(expression).items():
        method = METHODS.find(call.name)
        types, values = option_types(method), check(call.name, method, {**given.get(call.name, {}), **call.options})
        for option, value in values.items():
            if option in call.options or not ("weight" in option or option in TUNED):
                continue
            if fits(0.5, types.get(option, object)) and fits(value, float) and value > 0:
                found[f"{label}.{option}"] = _range(option, float(value))
    return found


def with_options(expression: str, options: Options) -> str:
    """Write options into an expression.

    Example:
        >>> with_options("kd(temperature=2)+0.5*rkd", {"kd.weight": 3.0, "rkd.angle_weight": 4.0})
        'kd(temperature=2,weight=3.0)+0.5*rkd(angle_weight=4.0)'
    """
    if not options:
        return expression
    calls = []
    for label, call in _labeled(expression).items():
        own = {name.removeprefix(f"{label}."): v for name, v in options.items() if name.startswith(f"{label}.")}
        calls.append(replace(call, options={**call.options, **own}))
    return written(calls)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """Schema of a trial that has started, ended or failed."""

    options: Mapping[str, float]
    validation_accuracy: float = 0.0
    validation_log_loss: float = 0.0
    failed: str = ""


@dataclass(frozen=True)
class _WrittenTrials:
    """Schema of ``trials.json``."""

    method: str
    trials: tuple[_Trial, ...]


@dataclass(frozen=True)
class Trials:
    """The tuning trials of one method.

    Each trial is recorded before it starts and after it ends, so that a stopped run continues with the same options.

    Args:
        folder: folder that receives ``trials.json``, and a subfolder for each trial.
        method: expression of the method.
        ranges: search ranges of the options.
        count: number of trials.
        seed: random seed of the proposed options.
    """

    folder: Path
    method: str
    ranges: Mapping[str, Range]
    count: int
    seed: int = 0

    @classmethod
    def of(cls, config: RunConfig, expression: str, folder: Path) -> Trials:
        """Return the trials of a method in a run; their `count` is 0 if there is nothing to tune."""
        found = ranges(expression, config.method_options) if config.tune else {}
        return cls(folder, expression, found, config.tune if found else 0, config.seed)

    def ended(self, number: int) -> bool:
        """Return whether a trial has ended."""
        trials = _read(self.folder)
        return number < len(trials) and _ended(trials[number])

    def run(self, number: int, train: Train, *, writes: bool = True) -> None:
        """Run one trial, after those before it.

        Args:
            number: number of the trial, from 0.
            train: function that trains a student.
            writes: whether this process writes the files; exactly one of those that train together does.

        Raises:
            CmkdError: an earlier trial has not ended, or the training failed. A trial that diverges is recorded
                instead, unless it is the first, which has the given options.
        """
        trials, place = _read(self.folder), self.folder / f"trial-{number}"
        if not all(map(_ended, trials[:number])) or len(trials) < number:
            raise CmkdError("an earlier trial has not ended")
        if number == len(trials):
            trials.append({"options": self._next(trials)})
            self._write(trials, writes)
        trial = trials[number]
        try:
            results = train(trial["options"])
            trial |= {name: results[name] for name in (ACCURACY, LOSS)}
        except DivergedError as error:
            if number == 0:  # given options: the other trials and the students would diverge too
                raise
            trial["failed"] = str(error)
        self._write(trials, writes)
        if writes:
            for path in (*place.glob("*.safetensors"), place / "best.json"):  # nobody needs the models of trials
                path.unlink(missing_ok=True)

    def chosen(self) -> dict[str, float]:
        """Return the best options, or the earliest of equally good ones; empty if there is nothing to tune.

        Raises:
            CmkdError: a trial has not ended.
        """
        trials = [trial for trial in _read(self.folder) if _ended(trial)]
        if len(trials) < self.count:
            raise CmkdError(f"{len(trials)} of the {self.count} trials of its method have ended")
        return _best(trials) if self.count else {}

    def _write(self, trials: list[dict[str, Any]], writes: bool) -> None:
        if writes:
            write_json(self.folder / "trials.json", {"method": self.method, "trials": trials})

    def _next(self, trials: list[dict[str, Any]]) -> dict[str, float]:
        """Return the options of the next trial; they depend only on the seed and on the earlier trials."""
        if not trials:
            return {name: known.value for name, known in self.ranges.items()}
        import optuna
        from optuna.distributions import BaseDistribution, FloatDistribution
        from optuna.trial import TrialState

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        space: dict[str, BaseDistribution] = {
            name: FloatDistribution(known.low, known.high, log=True) for name, known in self.ranges.items()
        }
        drawn = int(np.random.SeedSequence((self.seed, len(trials))).generate_state(1)[0])
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=drawn))
        for trial in trials:
            state = TrialState.FAIL if "failed" in trial else TrialState.COMPLETE
            params, value = dict(trial["options"]), trial.get(ACCURACY)
            study.add_trial(optuna.create_trial(state=state, params=params, distributions=space, value=value))
        return {name: _rounded(value) for name, value in study.ask(space).params.items()}


def trial_count(config: RunConfig, expression: str) -> int:
    """Return the number of trials of a method in a run."""
    return Trials.of(config, expression, config.out).count


def summary(folder: Path, count: int) -> dict[str, Any] | None:
    """Return the result of the trials in a folder; None while fewer than `count` have ended.

    Returns:
        ``method``; ``expression``, the method with its best options; ``options``, these options; ``trials``, the number
        of trials; and ``validation_accuracies`` of all trials, the one with the given options first, None for a trial
        that failed.
    """
    trials = [trial for trial in _read(folder) if _ended(trial)]
    if not trials or len(trials) < count:
        return None
    method, options = str(_document(folder)["method"]), _best(trials)
    return {
        "method": method,
        "expression": with_options(method, options),
        "options": options,
        "trials": len(trials),
        "validation_accuracies": [trial.get(ACCURACY) for trial in trials],
    }


def _read(folder: Path) -> list[dict[str, Any]]:
    return list(_document(folder)["trials"]) if (folder / "trials.json").exists() else []


def _document(folder: Path) -> dict[str, Any]:
    path = folder / "trials.json"
    content = read_json(path, fix=AGAIN)
    record(_WrittenTrials, content, f"'{path}'", fix=AGAIN)
    if any((ACCURACY in trial) != (LOSS in trial) for trial in content["trials"]):
        raise CmkdError(f"'{path}' is damaged (a trial lacks one of its two scores): {AGAIN}")
    if any("failed" in trial for trial in content["trials"][:1]):  # such a failure stops the run and is not recorded
        raise CmkdError(f"'{path}' is damaged (the first trial has failed): {AGAIN}")
    return content


def _ended(trial: Mapping[str, Any]) -> bool:
    return ACCURACY in trial or "failed" in trial


def _best(trials: list[dict[str, Any]]) -> dict[str, float]:
    known = [trial for trial in trials if ACCURACY in trial]
    return dict(max(known, key=lambda trial: (trial[ACCURACY], -trial[LOSS]))["options"])


def _labeled(expression: str) -> dict[str, Call]:
    """Return the calls in a sum by name; a repeated name gets a number, like its loss terms: ``kd``, ``kd_2``."""
    found: dict[str, Call] = {}
    for call in parse_sum(expression):
        label, count = call.name, 2
        while label in found:
            label, count = f"{call.name}_{count}", count + 1
        found[label] = call
    return found


def _range(option: str, value: float) -> Range:
    if option != "temperature":
        return Range(value, _rounded(value / FACTOR), _rounded(value * FACTOR))
    low, high = value / TEMPERATURE_FACTOR, value * TEMPERATURE_FACTOR
    return Range(value, _rounded(low if value < LOWEST_TEMPERATURE else max(low, LOWEST_TEMPERATURE)), _rounded(high))


def _rounded(value: float) -> float:
    """Round to three significant digits, which a table can show and a command line can repeat."""
    return float(f"{value:.3g}")
