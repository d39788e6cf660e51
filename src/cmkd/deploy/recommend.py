"""The student that a run recommends: chosen and calibrated on validation pairs, in one file with its model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from cmkd.data.pack import Card
from cmkd.deploy.calibration import BINS, Calibration, calibration_error, fit, reliability
from cmkd.deploy.model_card import model_card
from cmkd.deploy.student import STUDENT
from cmkd.evaluation.results import read_predictions
from cmkd.io import write_text
from cmkd.models.checkpoint import rewrite

CARD = "student.md"
"""Name of the recommended student's card in the folder of a run."""


def recommended(students: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the student that a run recommends; the choice does not use the test pairs.

    The method is the one with the best mean validation accuracy, so that a single lucky student does not decide; the
    student is the best of this method on validation. Ties go to the lower log loss. Controls that see hidden labels are
    left out.

    Args:
        students: entries ``students`` of ``results.json``.

    Returns:
        The entry of the student; None if there is none to choose from.

    Example:
        >>> rows = [
        ...     {"method": m, "seed": s, "validation_accuracy": a, "validation_log_loss": 1.0}
        ...     for m, s, a in [("kd", 0, 0.9), ("kd", 1, 0.6), ("ds", 0, 0.8), ("ds", 1, 0.81)]
        ... ]
        >>> recommended(rows)
        {'method': 'ds', 'seed': 1, 'validation_accuracy': 0.81, 'validation_log_loss': 1.0}
    """
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for student in students:
        if not student.get("sees_all_labels"):
            by_method.setdefault(student["method"], []).append(student)
    if not by_method:
        return None
    best = max(
        by_method.values(), key=lambda rows: tuple(mean(value) for value in zip(*map(_worth, rows), strict=True))
    )
    return max(best, key=_worth)


def _worth(student: Mapping[str, Any]) -> tuple[float, float]:
    return student["validation_accuracy"], -student["validation_log_loss"]


def publish(folder: Path, results: Mapping[str, Any], card: Card, *, precision: float) -> None:
    """Write the recommended student of a run with its calibration, and its model card.

    Args:
        folder: folder of the run.
        results: contents of the run's ``results.json``.
        card: card of the run's data.
        precision: precision of the accepted predictions, as for `cmkd.deploy.calibration.fit`.
    """
    chosen = recommended(results["students"])
    if chosen is None:
        return
    checkpoint = folder / chosen["checkpoint"]
    logits, target = {}, {}
    for split in ("validation", "test"):
        table = read_predictions(checkpoint.parent / f"{split}.parquet", len(results["data"]["classes"]), logits=True)
        target[split] = table["target"].to_numpy()
        logits[split] = table.filter(regex=r"^logit_\d+$").to_numpy()
    calibration = fit(logits["validation"], target["validation"], precision=precision)
    test = _on_test(calibration, logits["test"], target["test"])
    about = {
        "method": chosen["method"],
        "seed": chosen["seed"],
        "calibration": calibration.to_dict(),
        "data": card.to_dict() | {"version": card.version, "sha256": dict(card.sha256)},
        "validation_accuracy": chosen["validation_accuracy"],
        "test_accuracy": chosen["test_accuracy"],
        "test": test,
        "reliability": {
            "bins": BINS,
            "uncalibrated": reliability(Calibration().probabilities(logits["test"]), target["test"]),
            "calibrated": reliability(calibration.probabilities(logits["test"]), target["test"]),
        },
    }
    rewrite(checkpoint, folder / STUDENT, about)
    write_text(folder / CARD, model_card(results, chosen, card, calibration, test))


def _on_test(calibration: Calibration, logits: np.ndarray, target: np.ndarray) -> dict[str, float | int | None]:
    """Measure calibration and thresholds on the test pairs, which were not used to fit them."""
    before, after = Calibration().probabilities(logits), calibration.probabilities(logits)
    accepted = ~calibration.rejected(after)
    right = after.argmax(1) == target
    return {
        "pairs": len(target),
        "calibration_error_before": calibration_error(before, target),
        "calibration_error": calibration_error(after, target),
        "accepted": float(accepted.mean()),
        "accuracy_of_accepted": float(right[accepted].mean()) if accepted.any() else None,
    }
