"""Discriminability: how well features separate the classes."""

from __future__ import annotations

import torch
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.folds import stratified_folds
from cmkd.structure.features import as_vectors, check_target, class_sums

_WORKING_MEMORY = 256  # MiB of distances that scikit-learn keeps in memory at once; its default is 1 GiB


def nearest_neighbor_classifier(neighbors: int = 5) -> KNeighborsClassifier:
    """Return a Euclidean nearest-neighbor classifier."""
    return KNeighborsClassifier(neighbors)


def linear_probe(regularization: float = 1.0) -> Pipeline:
    """Return logistic regression on standardized channels, with `regularization` as its inverse penalty (C)."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=regularization, max_iter=2000))


def held_out_accuracy(
    classifier: KNeighborsClassifier | Pipeline,
    features: Tensor,
    target: Tensor,
    test_features: Tensor,
    test_target: Tensor,
) -> float:
    """Fit `classifier` on one set and return its accuracy on another.

    Args:
        classifier: a classifier such as `linear_probe` or `nearest_neighbor_classifier`.
        features: ``(n, dim)`` features for fitting.
        target: ``(n,)`` classes for fitting.
        test_features: ``(m, dim)`` features for testing.
        test_target: ``(m,)`` classes for testing.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 0, 1, 1])
        >>> held_out_accuracy(linear_probe(), x, y, x + 0.1, y)
        1.0
    """
    check_target(features, target)
    check_target(test_features, test_target)
    if not len(test_target):
        raise CmkdError("the test set has no labeled sample: leave it out, or give labels")
    with config_context(working_memory=_WORKING_MEMORY):
        classifier.fit(features.cpu().numpy(), target.cpu().numpy())
        return float(classifier.score(test_features.cpu().numpy(), test_target.cpu().numpy()))


def cross_validated_accuracy(
    classifier: KNeighborsClassifier | Pipeline,
    features: Tensor,
    target: Tensor,
    *,
    groups: Tensor | None = None,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """Return the mean accuracy of stratified cross-validation, for use without a test set.

    Args:
        classifier: a classifier such as `linear_probe` or `nearest_neighbor_classifier`.
        features: ``(n, dim)``.
        target: ``(n,)`` classes.
        groups: ``(n,)`` integers; samples of one group, such as a scene or a person, are in the same fold. By default
            samples are assigned to folds individually.
        folds: number of folds.
        seed: random seed of the folds.

    Raises:
        CmkdError: if a class has fewer samples, or groups, than there are folds.
    """
    check_target(features, target)
    if groups is not None:
        check_target(features, groups, "group")
    if (smallest := fewest_of_a_class(target, groups)) < folds:
        unit = "samples" if groups is None else "groups"
        raise CmkdError(f"a class has {smallest} {unit}, fewer than {folds} folds: drop it or give a test set")
    y, names = target.cpu().numpy(), None if groups is None else groups.cpu().numpy()
    splits = PredefinedSplit(stratified_folds(y, names, folds=folds, seed=seed))
    with config_context(working_memory=_WORKING_MEMORY):
        return float(cross_val_score(classifier, features.cpu().numpy(), y, cv=splits).mean())


def fewest_of_a_class(target: Tensor, groups: Tensor | None = None) -> int:
    """Return the number of samples, or groups, of the class with the fewest.

    Example:
        >>> y = torch.tensor([0, 0, 0, 1, 1])
        >>> fewest_of_a_class(y), fewest_of_a_class(y, torch.tensor([0, 1, 2, 3, 3]))
        (2, 1)
    """
    if groups is None:
        return int(target.unique(return_counts=True)[1].min())
    return fewest_of_a_class(torch.stack([target.long(), groups.long()], 1).unique(dim=0)[:, 0])


def silhouette(features: Tensor, target: Tensor, *, sample: int = 5000, seed: int = 0) -> float:
    """Return the mean silhouette of the classes, Euclidean, between -1 and 1.

    Invariant to rotation, shift and a common scale, but not to duplicating the sample.

    The result is NaN if the drawn samples all have the same class, or all different classes.

    Args:
        features: ``(n, dim)``.
        target: ``(n,)``, at least two classes.
        sample: largest number of samples used, drawn at random, because the cost is quadratic.
        seed: random seed of the draw.

    Source:
        Rousseeuw 1987, as implemented in scikit-learn.
    """
    check_target(features, target)
    kept = torch.arange(features.shape[0])
    if len(kept) > sample:
        kept = torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed))[:sample]
    x, y = features.cpu()[kept].numpy(), target.cpu()[kept].numpy()
    if not 2 <= len(set(y.tolist())) < len(y):
        return float("nan")
    with config_context(working_memory=_WORKING_MEMORY):
        return float(silhouette_score(x, y))


def scatter_ratios(products: Tensor, sums: Tensor, counts: Tensor) -> tuple[float, float]:
    """Return Fisher's ratio and NC1 from float64 sums over samples.

    S_W is the within-class and S_B the between-class covariance (class means weighted by class size). Fisher's ratio is
    ``tr S_B / tr S_W``, higher means better separated; NC1 is ``tr(S_W S_B⁺) / classes``, lower means more collapsed.
    Both are invariant to rotation, shift, a common scale, and to duplicating the sample.

    Args:
        products: ``(dim, dim)`` sum of the outer products of all samples.
        sums: ``(classes, dim)`` sum of the vectors of each class.
        counts: ``(classes,)`` number of samples; a class without samples is left out.

    Returns:
        The ratio (inf if no class varies within itself) and NC1 (NaN if the class means coincide).

    Raises:
        CmkdError: if there are fewer than two classes.

    Source:
        Fisher 1936; Papyan, Han, Donoho 2020, arXiv 2008.08186 (NC1, for balanced classes).
    """
    sums, counts = sums[counts > 0], counts[counts > 0]
    if len(counts) < 2:
        raise CmkdError(f"expected samples of at least two classes, got {len(counts)}")
    n, means = counts.sum(), sums / counts[:, None]
    offsets = means - sums.sum(0) / n
    between = (offsets * counts[:, None]).T @ offsets / n
    within = (products - (means * counts[:, None]).T @ means) / n
    inside = within.diagonal().sum().clamp(min=0.0)
    # S_B has rank classes - 1 at most: eigenvalues below its precision must not be inverted
    collapse = (within @ torch.linalg.pinv(between, hermitian=True, rtol=1e-10)).diagonal().sum()
    # rounding makes differences of sums nonzero even if all samples of a class, or all class means, coincide
    negligible = 1e-14 * products.diagonal().sum() / n
    outside = between.diagonal().sum()
    ratio = torch.inf if inside <= negligible else float(outside / inside)
    return ratio, torch.nan if outside <= negligible else max(float(collapse) / len(counts), 0.0)


def fisher_ratio(features: Tensor, target: Tensor) -> float:
    """Return Fisher's ratio, see `scatter_ratios`.

    Example:
        >>> x = torch.tensor([[-1.0], [1.0], [9.0], [11.0]], dtype=torch.float64)
        >>> fisher_ratio(x, torch.tensor([0, 0, 1, 1]))  # means 0 and 10: 5² between; 1 within
        25.0
    """
    return fisher_and_collapse(features, target)[0]


def neural_collapse(features: Tensor, target: Tensor) -> float:
    """Return NC1, see `scatter_ratios`.

    Example:
        >>> x = torch.tensor([[-1.0], [1.0], [9.0], [11.0]], dtype=torch.float64)
        >>> round(neural_collapse(x, torch.tensor([0, 0, 1, 1])), 6)  # 1 / 25, over two classes
        0.02
    """
    return fisher_and_collapse(features, target)[1]


def fisher_and_collapse(features: Tensor, target: Tensor) -> tuple[float, float]:
    """Return both `scatter_ratios` in float64, computed from features ``(n, dim)`` and classes ``(n,)``."""
    features = as_vectors(features)
    check_target(features, target)
    sums, counts = class_sums(features, target, int(target.max()) + 1)
    return scatter_ratios(features.T @ features, sums, counts)
