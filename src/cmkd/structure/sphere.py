"""Distribution of features on the unit hypersphere: uniformity, alignment, tolerance, cosines and entropy."""

from __future__ import annotations

import math

import torch
from scipy.special import digamma
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.ops import check_pair
from cmkd.pairwise import log_mean_gaussian, nearest_neighbors, unit_rows
from cmkd.structure.features import Pooling, as_vectors, check_target, class_sums


def unit_vectors(features: Tensor, *, pooling: Pooling = "mean", center: bool = False) -> Tensor:
    """Return the features as float64 unit vectors; a zero vector stays zero.

    Args:
        features: ``(n, dim)`` or maps.
        pooling: how maps become vectors, see `cmkd.structure.features.as_vectors`.
        center: whether to subtract the mean vector first.
    """
    x = as_vectors(features, pooling=pooling)
    x = x - x.mean(0) if center else x
    # scale first, so that the epsilon of unit_rows is negligible for features of any size
    scale = x.abs().amax(1, keepdim=True)
    return unit_rows(x / torch.where(scale > 0, scale, 1.0), eps=1e-300)


def uniformity(unit: Tensor, *, t: float = 2.0) -> float:
    """``log mean_{i<j} exp(-t |u_i - u_j|²)``, between -4t and 0; lower is more uniform.

    Invariant to rotation and to permuting samples; duplicating the sample raises it, because it adds coinciding pairs.

    Args:
        unit: ``(n, dim)`` unit vectors.
        t: inverse width of the Gaussian potential.

    Source:
        Wang, Isola 2020, arXiv 2005.10242.

    Example:
        >>> round(uniformity(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), 6)  # |u - v|² = 2
        -4.0
    """
    return float(log_mean_gaussian(unit, t=t))


def alignment(student_unit: Tensor, teacher_unit: Tensor, *, power: float = 2.0) -> float:
    """Mean ``|u - v|^power`` over pairs of unit vectors of the same width; 0 if they coincide.

    Invariant to a common rotation, to permuting pairs and to duplicating the sample.

    Source:
        Wang, Isola 2020, arXiv 2005.10242.

    Example:
        >>> alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]]))
        4.0
    """
    check_pair(student_unit, teacher_unit, same_shape=True)
    return float((student_unit - teacher_unit).norm(dim=1).pow(power).mean())


def mean_cosine(unit: Tensor) -> float:
    """Mean cosine over pairs ``i < j``, computed from the sum of the vectors in O(n dim).

    Invariant to rotation and to permuting samples, but not to duplicating the sample, which adds pairs of cosine 1.

    Example:
        >>> mean_cosine(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]))
        -0.333...
    """
    n = unit.shape[0]
    if n < 2:
        raise CmkdError(f"expected at least 2 samples, got {n}")
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (n * (n - 1)))


def tolerance(unit: Tensor, target: Tensor) -> float:
    """Mean cosine over pairs ``i < j`` of the same class; NaN if no class has two samples.

    Invariant to rotation and to permuting samples. The paper takes the mean over all pairs, in which pairs of different
    classes count as 0; here only pairs of the same class count, so the value does not fall with the number of classes.

    Source:
        Wang, Liu 2021, arXiv 2012.09740.

    Example:
        >>> tolerance(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0, 1, 1]))
        0.5
    """
    check_target(unit, target)
    sums, counts = class_sums(unit, target, int(target.max()) + 1)
    pairs = (counts * (counts - 1)).sum()
    return float((sums.square().sum() - unit.square().sum()) / pairs) if pairs else math.nan


def nearest_neighbor_entropy(unit: Tensor, *, neighbor: int = 1) -> float:
    """Differential entropy on the hypersphere, in nats, from nearest-neighbor distances (Kozachenko-Leonenko).

    ``ψ(n) - ψ(k) + log V_d + (d / n) Σ_i log ε_i``, ``ε_i`` the distance to the k-th neighbor, ``d = dim - 1``, the
    dimension of the hypersphere, and ``V_d`` the volume of the d-dimensional unit ball. Distances are chords, and the
    ball around a sample is treated as flat. This is biased if neighbors are far apart, so compare only models with the
    same n and dim. Distances below 1e-12 count as 1e-12, so duplicates, whose entropy is -inf, give a very low, finite
    value.

    Invariant to rotation and to permuting samples, but not to duplicating the sample.

    Args:
        unit: ``(n, dim)`` unit vectors, n above `neighbor`, dim at least 2.
        neighbor: k.

    Source:
        Kozachenko, Leonenko 1987; with k neighbors Kraskov et al. 2004, arXiv cond-mat/0305641, equation 20.
    """
    n, dim = unit.shape
    if dim < 2:
        raise CmkdError(f"the entropy needs features of at least 2 dimensions, got {dim}")
    squared, _ = nearest_neighbors(unit, unit, count=neighbor, skip_self=True)
    log_distance = 0.5 * squared[:, -1].clamp(min=1e-24).log()
    d = dim - 1
    log_ball = 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1.0)
    return float(digamma(n) - digamma(neighbor) + log_ball + d * float(log_distance.mean()))
