"""The model card of a student: purpose, accuracy, calibration, limits and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmkd.data.pack import Card
from cmkd.data.summary import invalid_values, type_and_unit
from cmkd.deploy.calibration import Calibration
from cmkd.evaluation import covered
from cmkd.evaluation.summary import ONE_GROUP
from cmkd.markdown import address, code, escape, fenced, table
from cmkd.methods.pages import bibliography
from cmkd.types import Modality


def model_card(
    results: Mapping[str, Any],
    chosen: Mapping[str, Any],
    card: Card,
    calibration: Calibration,
    test: Mapping[str, Any],
) -> str:
    """Return the card as Markdown (after Mitchell et al. 2019, arXiv 1810.03993).

    Args:
        results: contents of the run's ``results.json``.
        chosen: entry of the student in ``students`` of `results`.
        card: card of the data.
        calibration: calibration of the student.
        test: the student's calibration and rejection on the test pairs, as measured by `cmkd.deploy.recommend`.
    """
    data, teacher = results["data"], results["teacher"]
    modality = card.modalities[data["poor"]]
    summary = {row["method"]: row for row in results["summary"]}
    sections = {
        f"A classifier of {escape(data['poor'])} samples": _intended(data, modality, chosen),
        "Accuracy": _accuracy(data, teacher, chosen, summary),
        "Calibration": _calibrated(calibration, data["classes"], test),
        "Limits": _limits(data, card),
        "Data": _data(data, card),
        "Citation": fenced(_citations(card, chosen["method"]), "bibtex"),
    }
    return "\n\n".join(
        f"{'#' if k == 0 else '##'} {title}\n\n{text}" for k, (title, text) in enumerate(sections.items())
    )


def _intended(data: Mapping[str, Any], modality: Modality, chosen: Mapping[str, Any]) -> str:
    size, classes = "x".join(map(str, modality.shape)), ", ".join(map(escape, data["classes"]))
    rich, poor, kind = escape(data["rich"]), escape(data["poor"]), escape(type_and_unit(modality))
    return (
        f"It distinguishes {len(data['classes'])} classes ({classes}) in one {poor} sample of shape {size} ({kind}). "
        f"It was trained with pairs of {rich} and {poor} by {code(chosen['method'])} (seed {chosen['seed']}); in use "
        f"it needs only {poor}. It was chosen on the validation pairs."
    )


def _accuracy(
    data: Mapping[str, Any], teacher: Mapping[str, Any], chosen: Mapping[str, Any], summary: Mapping[str, Any]
) -> str:
    measured = [
        ("this student", chosen["test_accuracy"]),
        ("this student, balanced accuracy", chosen["test_balanced_accuracy"]),
    ]
    row = summary[chosen["method"]]
    measured.append((f"{code(chosen['method'])}, mean of {row['n']}", row["mean"]))
    if "none" in summary and chosen["method"] != "none":
        measured.append((f"without a teacher, mean of {summary['none']['n']}", summary["none"]["mean"]))
    if teacher["test_accuracy"] is not None:
        other = "" if data["same_test_pairs"] else f", on its {teacher['test_pairs']} test pairs"
        measured.append((f"the teacher, which needs {escape(data['rich'])}{other}", teacher["test_accuracy"]))
    rows = [(said, f"{100 * accuracy:.1f}") for said, accuracy in measured]
    lines = [table((f"on the test pairs ({data['pairs']['test']})", "%"), rows, left=1)]
    if row.get("one_group"):
        lines += [
            "",
            f"Gain over training without a teacher: {100 * row['gain']:+z.1f} points, on {ONE_GROUP}.",
        ]
    elif row.get("gain_interval"):
        low, high = row["gain_interval"]
        lines += [
            "",
            f"Gain over training without a teacher: {100 * row['gain']:+z.1f} points (95 % CI {100 * low:+.1f} to "
            f"{100 * high:+.1f} over {covered(row)}).",
        ]
    if not chosen.get("converged", True):
        lines += ["", "Its training had not converged: validation was still rising at the last step."]
    return "\n".join(lines)


def _calibrated(calibration: Calibration, classes: list[str], test: Mapping[str, Any]) -> str:
    limits = ", ".join(
        f"{escape(name)} {'never accepted' if limit is None else f'{limit:.2f}'}"
        for name, limit in zip(classes, calibration.thresholds, strict=True)
    )
    accepted = f"{100 * test['accepted']:.0f} % of the test pairs are accepted"
    if test["accuracy_of_accepted"] is not None:
        accepted += f", and {100 * test['accuracy_of_accepted']:.1f} % of these are right"
    return (
        f"Logits are divided by a temperature of {calibration.temperature:.2f}, fitted on {calibration.pairs} "
        f"validation pairs. The expected calibration error on the test pairs is "
        f"{100 * test['calibration_error']:.1f} % ({100 * test['calibration_error_before']:.1f} % without the "
        "temperature).\n\n"
        f"A prediction is rejected if its probability is below the threshold of its class, chosen for a precision of "
        f"{calibration.precision} on the validation pairs: {limits}. {accepted}."
    )


def _limits(data: Mapping[str, Any], card: Card) -> str:
    known = [
        f"It knows only these {len(data['classes'])} classes: a sample of anything else gets one of them.",
        "Its accuracy, probabilities and thresholds hold for samples like the test pairs; another sensor, season, "
        "place or resolution can differ. Measure on your own labeled samples before you rely on it.",
    ]
    if min(data["pairs"]["validation"], data["pairs"]["test"]) < 500:
        known.append(
            f"Validation and test have {data['pairs']['validation']} and {data['pairs']['test']} pairs: "
            "differences of a few points are within chance."
        )
    if card.unsound:
        known.append(f"Known problem of the data: {escape(card.unsound)}")
    return "\n".join(f"- {line}" for line in known)


def _data(data: Mapping[str, Any], card: Card) -> str:
    pairs = ", ".join(f"{count} {split}" for split, count in data["pairs"].items())
    labels = data["labels"]["student"]
    name = ": ".join(map(escape, filter(None, (card.name, card.title))))
    lines = [
        f"{name} (version {card.version}); pairs: {pairs}.",
        f"The student saw {labels['visible']} of {labels['all']} training labels"
        + (f", {wrong} of which were made wrong on purpose." if (wrong := labels.get("wrong")) else "."),
        f"License of the data: {escape(card.license) or 'not stated'}.",
    ]
    if invalid := invalid_values(card):
        lines.append(f"Invalid values: {escape(invalid)}.")
    return "\n".join(lines + [f"Source: {address(source)}" for source in card.sources])


def _citations(card: Card, method: str) -> str:
    return "\n\n".join(text.strip() for text in (card.citation, bibliography([method])) if text)
