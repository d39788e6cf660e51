"""The two entry points: `describe` for a feature space, `compare` for a pair of models."""

from __future__ import annotations

import torch
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.ops import check_pair
from cmkd.structure import channels, discriminability, similarity, sphere
from cmkd.structure.features import Pooling, as_vectors, check_target

DESCRIBED = (
    "correlation_mean_abs", "correlation_norm", "effective_rank", "participation_ratio", "spectral_decay",
    "uniformity", "uniformity_centered", "mean_cosine", "nearest_neighbor_entropy", "tolerance", "fisher_ratio", "nc1",
    "silhouette", "knn_accuracy", "linear_probe_accuracy",
)  # fmt: skip
"""The metrics of `describe`, if the data allow all of them."""
ESSENTIAL = ("correlation_mean_abs", "effective_rank", "uniformity", "uniformity_centered", "fisher_ratio")
"""The metrics of `essentials`."""
COMPARED = (
    "linear_cka", "cross_correlation_diagonal", "alignment", "prediction_agreement", "non_target_divergence",
)  # fmt: skip
"""The metrics of `compare`: three for features, then two for logits."""


def describe(
    features: Tensor,
    target: Tensor | None = None,
    *,
    test_features: Tensor | None = None,
    test_target: Tensor | None = None,
    groups: Tensor | None = None,
    pooling: Pooling = "mean",
    t: float = 2.0,
    neighbors: int = 5,
    seed: int = 0,
) -> dict[str, float]:
    """Measure the dimensional structure of features and, with classes, their discriminability.

    Args:
        features: ``(n, dim)``, or maps ``(n, channels, height, width)``.
        target: ``(n,)`` classes; negative values mark unlabeled samples, which class metrics leave out.
        test_features: test set in the form of `features`; the two classifiers are fitted on `features` and scored on
            the test set. Without it, the accuracies come from 5-fold stratified cross-validation on `features`.
        test_target: ``(m,)`` classes of the test set.
        groups: ``(n,)`` integers; samples of one group, such as a scene or a person, are in the same fold.
        pooling: how maps become vectors: ``mean`` over positions or ``flatten``.
        t: inverse width of the Gaussian potential of the uniformity.
        neighbors: k of the k-nearest-neighbor accuracy.
        seed: random seed of the folds and of the samples of the silhouette.

    Returns:
        ``samples``, ``dim``, ``constant_channels``; ``correlation_mean_abs``, ``correlation_norm``, ``effective_rank``,
        ``participation_ratio``, ``spectral_decay``; ``uniformity`` and ``uniformity_centered``, ``mean_cosine``,
        ``nearest_neighbor_entropy`` (two or more dimensions). With two or more classes: ``tolerance``,
        ``fisher_ratio``, ``nc1``, ``silhouette``, and, where each class has 5 samples (of 5 groups) or there is
        a test set, ``knn_accuracy`` and ``linear_probe_accuracy``. Memory is O(n dim + dim²).

    Raises:
        CmkdError: if there are fewer than two samples, all features are 0, features are NaN or infinite, or shapes do
            not match.

    Example:
        >>> x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
        >>> found = describe(x, torch.arange(60) % 2)
        >>> 1 <= found["effective_rank"] <= 8, "linear_probe_accuracy" in found
        (True, True)
    """
    if (test_features is None) != (test_target is None):
        raise CmkdError("a test set needs both test_features and test_target")
    if test_features is not None and target is None:
        raise CmkdError("a test set also needs the classes of the first set: give target")
    x = as_vectors(features, pooling=pooling)
    found = _structure(x, t)
    if target is not None:
        check_target(x, target)
        labeled = target >= 0
        test = None
        if test_features is not None and test_target is not None:
            test = as_vectors(test_features, pooling=pooling, at_least=1), test_target
            if test[0].shape[1] != x.shape[1]:
                raise CmkdError(f"expected test features of width {x.shape[1]}, got {test[0].shape[1]}")
            kept = test_target >= 0
            test = test[0][kept], test_target[kept]
        if groups is not None:
            check_target(x, groups, "group")
            groups = groups[labeled]
        found |= _discriminability(x[labeled], target[labeled], groups, test, neighbors, seed)
    return found


def essentials(features: Tensor, target: Tensor) -> dict[str, float]:
    """Measure the metrics of `describe` that a run reports for each model: fast ones of structure and of classes.

    Args:
        features: ``(n, dim)``.
        target: ``(n,)`` classes, none negative.

    Returns:
        The metrics `ESSENTIAL`; ``fisher_ratio`` is missing if there is only one class.

    Raises:
        CmkdError: for the same reasons as `describe`.

    Example:
        >>> x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
        >>> list(essentials(x, torch.arange(60) % 2)) == list(ESSENTIAL)
        True
    """
    x = as_vectors(features)
    moments = channels.Moments.of(x)
    found = {
        "correlation_mean_abs": channels.correlation_mean_abs(moments),
        "effective_rank": channels.effective_rank(moments),
        "uniformity": sphere.uniformity(sphere.unit_vectors(x)),
        "uniformity_centered": sphere.uniformity(sphere.unit_vectors(x, center=True)),
    }
    if len(target.unique()) > 1:
        found["fisher_ratio"] = discriminability.fisher_ratio(x, target)
    return found


def _structure(x: Tensor, t: float) -> dict[str, float]:
    unit = sphere.unit_vectors(x)
    found = {
        "samples": float(x.shape[0]),
        "dim": float(x.shape[1]),
        **channels.channel_structure(channels.Moments.of(x)),
        "uniformity": sphere.uniformity(unit, t=t),
        "uniformity_centered": sphere.uniformity(sphere.unit_vectors(x, center=True), t=t),
        "mean_cosine": sphere.mean_cosine(unit),
    }
    if x.shape[1] > 1:
        found["nearest_neighbor_entropy"] = sphere.nearest_neighbor_entropy(unit)
    return found


def _discriminability(
    x: Tensor,
    target: Tensor,
    groups: Tensor | None,
    test: tuple[Tensor, Tensor] | None,
    neighbors: int,
    seed: int,
) -> dict[str, float]:
    classes = torch.unique(target)
    if len(classes) < 2:
        return {}
    ratio, collapse = discriminability.fisher_and_collapse(x, target)
    found = {
        "tolerance": sphere.tolerance(sphere.unit_vectors(x), target),
        "fisher_ratio": ratio,
        "nc1": collapse,
    }
    if len(classes) < x.shape[0]:
        found["silhouette"] = discriminability.silhouette(x, target, seed=seed)
    nearest, probe = discriminability.nearest_neighbor_classifier(neighbors), discriminability.linear_probe()
    fitted = len(x) if test is not None else len(x) * 4 // 5
    for name, classifier in (("knn_accuracy", nearest), ("linear_probe_accuracy", probe)):
        if classifier is nearest and fitted < neighbors:
            continue
        if test is not None:
            found[name] = discriminability.held_out_accuracy(classifier, x, target, *test)
        elif discriminability.fewest_of_a_class(target, groups) >= 5:
            found[name] = discriminability.cross_validated_accuracy(classifier, x, target, groups=groups, seed=seed)
    return found


def compare(
    student: Tensor,
    teacher: Tensor,
    *,
    student_logits: Tensor | None = None,
    teacher_logits: Tensor | None = None,
    target: Tensor | None = None,
    pooling: Pooling = "mean",
) -> dict[str, float]:
    """Measure how similar the features and predictions of two models are on the same samples.

    Args:
        student: ``(n, dim)`` features, or maps.
        teacher: ``(n, teacher dim)`` features, or maps.
        student_logits: ``(n, classes)``.
        teacher_logits: ``(n, classes)``.
        target: ``(n,)`` classes, negative for unlabeled samples.
        pooling: how maps become vectors: ``mean`` over positions or ``flatten``.

    Returns:
        ``linear_cka``; for equal widths also ``cross_correlation_diagonal`` and ``alignment``; with both logits
        ``prediction_agreement``, and with labeled samples also ``non_target_divergence``.

    Raises:
        CmkdError: if the numbers of samples differ or are below two, or features are NaN or infinite.

    Example:
        >>> x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
        >>> {name: round(value, 3) for name, value in compare(x, x).items()}
        {'linear_cka': 1.0, 'cross_correlation_diagonal': 1.0, 'alignment': 0.0}
    """
    x, y = as_vectors(student, pooling=pooling), as_vectors(teacher, pooling=pooling)
    moments = similarity.CrossMoments.of(x, y)
    found = {"linear_cka": similarity.linear_cka(moments)}
    if x.shape == y.shape:
        found["cross_correlation_diagonal"] = similarity.cross_correlation_diagonal(moments)
        found["alignment"] = sphere.alignment(sphere.unit_vectors(x), sphere.unit_vectors(y))
    if student_logits is not None and teacher_logits is not None:
        check_pair(x, student_logits)
        found["prediction_agreement"] = similarity.prediction_agreement(student_logits, teacher_logits)
        if target is not None and (target >= 0).any():
            kept = target >= 0
            found["non_target_divergence"] = similarity.non_target_divergence(
                student_logits[kept], teacher_logits[kept], target[kept]
            )
    return found
