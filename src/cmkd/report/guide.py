"""Explain each measure of structure: a sentence, a unit, and two small pictures with the measure's own values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cmkd import structure
from cmkd.report.points import Points, picture

Array = NDArray[np.float64]
_COUNT = 60


@dataclass(frozen=True)
class Measure:
    """How to read a metric of `cmkd.structure`.

    Args:
        name: name in tables.
        unit: unit in tables; empty for a pure number.
        sees: what the metric measures, and how to read it.
        better: ``lower`` or ``higher`` if it means more separable classes by definition, else empty.
        panels: captions and synthetic features for the two extremes of the metric.
        value: function that computes the metric of a panel; None for a measure without a picture.
    """

    name: str
    sees: str
    unit: str = ""
    better: str = ""
    panels: Sequence[tuple[str, Callable[[], Points]]] = ()
    value: Callable[[Points], float] | None = None

    @property
    def title(self) -> str:
        """Name with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def factor(self) -> float:
        """Factor from the number in `structure.json` to the number in tables."""
        return 100.0 if self.unit == "%" else 1.0

    def pictures(self) -> list[dict[str, str]]:
        """Return each panel as SVG with its caption: what it shows, and the metric's value on it."""
        found = []
        for said, make in self.panels:
            points = make()
            value = f": {round(self.value(points), 2):.3g}" if self.value else ""
            found.append({"svg": picture(points, said), "caption": f"{said}{value}"})
        return found


def _normal(count: int = _COUNT, seed: int = 0) -> Array:
    """Return points whose two channels are exactly uncorrelated, of variance 1."""
    x = np.random.default_rng(seed).normal(size=(count, 2))
    return np.asarray(np.linalg.qr(x - x.mean(0))[0] * count**0.5)


def _independent() -> Points:
    return Points(_normal())


def _correlated() -> Points:
    x = _normal()
    return Points(np.stack([x[:, 0], 0.95 * x[:, 0] + 0.25 * x[:, 1]], 1))


def _flat() -> Points:
    return Points(_normal() * [1.0, 0.12])


def _circle(angles: Array) -> Points:
    return Points(np.stack([np.cos(angles), np.sin(angles)], 1), circle=True)


def _clumped() -> Points:
    return _circle(0.6 + 0.3 * _normal()[:, 0])


def _spread() -> Points:
    return _circle(np.linspace(0.0, 2 * np.pi, _COUNT, endpoint=False))


def _offset() -> Points:
    return Points(0.35 * _normal() + [2.0, 1.0], axes=True)


def _classes(distance: float) -> Points:
    kind = np.arange(_COUNT) % 2
    return Points(0.5 * _normal() + np.stack([distance * (kind - 0.5), 0.0 * kind], 1), kind=kind)


def _apart() -> Points:
    return _classes(3.0)


def _mixed() -> Points:
    return _classes(0.5)


def _rotated(points: Array) -> Array:
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.asarray(points @ turn)


def _alike() -> Points:
    x = _flat().places
    return Points(x, second=_rotated(x))


def _unlike() -> Points:
    return Points(_flat().places, second=_rotated(_normal(seed=3)) * [0.12, 1.0])


def _moments(points: Points) -> structure.Moments:
    return structure.Moments.of(torch.from_numpy(points.places))


def _of(points: Points) -> float:
    return structure.uniformity(structure.unit_vectors(torch.from_numpy(points.places)))


def _with_classes(measure: Callable[[torch.Tensor, torch.Tensor], float]) -> Callable[[Points], float]:
    return lambda points: measure(torch.from_numpy(points.places), torch.from_numpy(points.kind))


def _cka(points: Points) -> float:
    x, y = torch.from_numpy(points.places), torch.from_numpy(points.second)
    return structure.linear_cka(structure.CrossMoments.of(x, y))


def _centered(points: Points) -> Points:
    return Points(points.places - points.places.mean(0), axes=True)


def _vote(x: torch.Tensor, kind: torch.Tensor) -> float:
    return 100 * structure.cross_validated_accuracy(structure.nearest_neighbor_classifier(), x, kind)


def _probe(x: torch.Tensor, kind: torch.Tensor) -> float:
    return 100 * structure.cross_validated_accuracy(structure.linear_probe(), x, kind)


def _stacks(teacher: Sequence[int], student: Sequence[int]) -> Points:
    """Return probabilities of the wrong classes as stacks of dots: the teacher's beside the student's."""
    places, kind = [], []
    for column, heights in enumerate(zip(teacher, student, strict=True)):
        for model, height in enumerate(heights):
            places += [[column - 1.1 + 0.35 * model, 0.25 * row - 1.0] for row in range(height)]
            kind += [model] * height
    return Points(np.array(places), kind=np.array(kind))


def _divergence(points: Points) -> float:
    """Compute the measure from the heights of the stacks; the target's logit, which comes first, does not count."""
    column = np.round((points.places[:, 0] + 1.1) // 0.9).astype(int)
    counts = [np.bincount(column[points.kind == model], minlength=3) for model in (1, 0)]
    student, teacher = (torch.log(torch.tensor([[1.0, *own]])) for own in counts)
    return structure.non_target_divergence(student, teacher, torch.tensor([0]))


def _disagreeing(count: int) -> Points:
    apart = _apart()
    return Points(apart.places, kind=apart.kind, second=apart.places[:count])


def _channel(points: Points) -> float:
    x, y = torch.from_numpy(points.places[:, :1]), torch.from_numpy(points.places[:, 1:])
    return structure.cross_correlation_diagonal(structure.CrossMoments.of(x, y))


_CHANNELS = (("two independent channels", _independent), ("two correlated channels", _correlated))
_PLANES = (("both directions used", _independent), ("one direction used", _flat))
_SPHERES = (("spread over the circle", _spread), ("clumped", _clumped))
_SEPARATED = (("classes apart", _apart), ("classes mixed", _mixed))

MEASURES = {
    "correlation_mean_abs": Measure(
        "mean |r|",
        "How far channels repeat each other: the mean absolute correlation between two channels over the pairs, "
        "0 (independent) to 1 (copies).",
        panels=_CHANNELS,
        value=lambda p: structure.correlation_mean_abs(_moments(p)),
    ),
    "effective_rank": Measure(
        "effective rank",
        "How many directions the features use: 1 to the number of channels. It is not centered, so that a large "
        "common offset lowers it.",
        unit="directions",
        panels=_PLANES,
        value=lambda p: structure.effective_rank(_moments(p)),
    ),
    "participation_ratio": Measure(
        "participation ratio",
        "How many directions carry the variance, after centering; it weighs large directions more than the effective "
        "rank does.",
        unit="directions",
        panels=_PLANES,
        value=lambda p: structure.participation_ratio(_moments(p)),
    ),
    "spectral_decay": Measure(
        "spectral decay",
        "How fast the variance falls from one direction to the next: the exponent of a power law. 0 is flat, 1 halves "
        "it at every doubling of the rank. Look at the spectrum first: it need not be a power law.",
        panels=_PLANES,
        value=lambda p: structure.spectral_decay(_moments(p)),
    ),
    structure.uniformity.__name__: Measure(
        "raw uniformity",
        "How evenly the features, scaled to length one, cover the sphere: 0 if all point one way, lower if more "
        "uniform. A common offset alone brings it near 0.",
        panels=_SPHERES,
        value=_of,
    ),
    "uniformity_centered": Measure(
        "centered uniformity",
        "The same after the mean is subtracted. Compare the two: if only the raw one is near 0, the features share an "
        "offset and are not collapsed.",
        panels=(("an offset: raw", _offset), ("an offset: centered", lambda: _centered(_offset()))),
        value=_of,
    ),
    "fisher_ratio": Measure(
        "Fisher ratio",
        "Distance between class means against the spread within classes, both as variances.",
        better="higher",
        panels=_SEPARATED,
        value=_with_classes(structure.fisher_ratio),
    ),
    "nc1": Measure(
        "NC1",
        "Spread within classes, measured in the directions that separate the class means; 0 if each class is a point.",
        better="lower",
        panels=_SEPARATED,
        value=_with_classes(structure.neural_collapse),
    ),
    "silhouette": Measure(
        "silhouette",
        "How much nearer a pair is to its own class than to the next one, -1 to 1; 0 on the border.",
        better="higher",
        panels=_SEPARATED,
        value=_with_classes(structure.silhouette),
    ),
    "knn_accuracy": Measure(
        "5-NN",
        "Cross-validated accuracy of a vote of the five nearest neighbors: are neighbors of one class?",
        unit="%",
        better="higher",
        panels=_SEPARATED,
        value=_with_classes(_vote),
    ),
    "linear_probe_accuracy": Measure(
        "linear probe",
        "Cross-validated accuracy of a linear classifier on the frozen features: can planes separate the classes?",
        unit="%",
        better="higher",
        panels=_SEPARATED,
        value=_with_classes(_probe),
    ),
    "linear_cka": Measure(
        "linear CKA with the teacher",
        "Whether two models place the pairs alike, up to rotation and scale: 0 to 1. Crosses are the second model's.",
        panels=(("a rotated copy", _alike), ("unrelated", _unlike)),
        value=_cka,
    ),
    "cross_correlation_diagonal": Measure(
        "channel-to-channel correlation with the teacher",
        "Mean correlation of channel i with the teacher's channel i, -1 to 1. Only methods that tie channels raise it. "
        "The pictures show one channel of the student against the teacher's.",
        panels=(("not tied", _independent), ("tied", _correlated)),
        value=_channel,
    ),
    "prediction_agreement": Measure(
        "agreement with the teacher",
        "Fraction of the pairs on which both models predict the same class. Crosses are pairs on which they differ.",
        unit="%",
        panels=(("nearly all", lambda: _disagreeing(3)), ("half", lambda: _disagreeing(_COUNT // 2))),
        value=lambda p: 100 * (1 - len(p.second) / len(p.places)),
    ),
    "non_target_divergence": Measure(
        "non-target divergence",
        "How differently the teacher and the student weigh the wrong classes; 0 if they agree. The "
        "pictures show their probabilities of three wrong classes, the teacher's first.",
        unit="nats",
        panels=(("alike", lambda: _stacks((6, 3, 1), (6, 3, 1))), ("unlike", lambda: _stacks((6, 3, 1), (1, 2, 7)))),
        value=_divergence,
    ),
}
"""How to read each metric, by its name in `structure.json`."""
