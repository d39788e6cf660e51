"""Sums over all pairs of points, with memory that grows with the number of points, not of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cmkd.errors import CmkdError
from cmkd.ops import at_least_float32, in_float32, squared_distances, widest

_RESCALE_ABOVE = 30.0
"""Sums are relative to a shift; at e^30 above it, float32 (up to e^88) still holds the sum over 10^12 pairs."""


def unit_rows(x: Tensor, *, eps: float = 1e-12) -> Tensor:
    """Scale each row to length one: ``x / sqrt(|x|² + eps)``.

    A zero row stays zero, with a gradient as if its length were one. (Clamping the norm instead would multiply this
    gradient by the inverse of the smallest norm, which half precision cannot hold.)

    Args:
        x: ``(n, dim)``.
        eps: added to the squared length.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6..., 0.8...], [0.0, 0.0]]
    """
    squared = x.square().sum(1, keepdim=True)
    return x * (squared + eps).where(squared > 0, 1.0).rsqrt()


@in_float32
def log_mean_gaussian(points: Tensor, *, t: float = 2.0, block_size: int | None = None) -> Tensor:
    """Logarithm of the mean Gaussian potential over all pairs: ``log mean_{i<j} exp(-t |x_i - x_j|²)``.

    Exact. The pairs are visited in blocks of ``block_size x block_size``, each unordered pair once, and the gradient is
    computed during the same visit, so that memory is O(n dim) and no exponential is computed twice. The sum is shifted
    as in log-sum-exp, so that distant points do not underflow to ``log 0``. The result can be differentiated once.

    Args:
        points: ``(n, dim)``; half precision is converted to float32, also under autocast.
        t: inverse width of the Gaussian, above 0, per squared distance.
        block_size: points per side of a block; by default 256 on a CPU, where a block then fits the cache, and 4096
            elsewhere.

    Returns:
        Scalar; 0 with a zero gradient for fewer than two points, which form no pair. NaN propagates.

    Raises:
        CmkdError: if `points` is not a matrix, or `t` or `block_size` is not positive.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        >>> round(float(log_mean_gaussian(x, t=3.0)), 12)
        -3.0
    """
    size = _block_size(points, t, block_size)
    (points,) = at_least_float32(points)
    if points.shape[0] < 2:
        return 0.0 * points.sum()
    return _differentiable(points, *_value_and_gradient(points.detach(), t, size, with_gradient=points.requires_grad))


@in_float32
def gaussian_discrepancy(points: Tensor, reference: Tensor, *, t: float = 2.0, block_size: int | None = None) -> Tensor:
    """Relative squared difference of Gaussian potentials, pair by pair.

    ``sum_{i<j} (k(x_i, x_j) - k(y_i, y_j))² / sum_{i<j} k(y_i, y_j)²``, ``k(a, b) = exp(-t |a - b|²)``: 0 if each pair
    of points is as close as its pair in the reference, 1 in the limit of points infinitely far apart. Exact, in blocks
    like `log_mean_gaussian`: memory is O(n (dim + reference dim)). The result can be differentiated once.

    Args:
        points: ``(n, dim)``, x; half precision is converted to float32, also under autocast.
        reference: ``(n, reference dim)``, y; it gets no gradient.
        t: inverse width of the Gaussian, above 0, per squared distance.
        block_size: points per side of a block, see `log_mean_gaussian`.

    Returns:
        Scalar; 0 with a zero gradient for fewer than two points. NaN propagates. The denominator is at least 1e-12 per
        pair, for a reference so spread that its potentials underflow.

    Raises:
        CmkdError: if an input is not a matrix, the lengths differ, or `t` or `block_size` is not positive.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> float(gaussian_discrepancy(x, x + 5.0)), round(float(gaussian_discrepancy(100.0 * x, x)), 6)
        (0.0, 1.0)
    """
    size = _block_size(points, t, block_size)
    _block_size(reference, t, block_size)
    if len(points) != len(reference):
        raise CmkdError(f"expected equally many points and reference points, got {len(points)} and {len(reference)}")
    points, reference = at_least_float32(points, reference)
    if points.shape[0] < 2:
        return 0.0 * points.sum()
    points_only, reference = points.detach(), reference.detach()
    return _differentiable(points, *_discrepancy(points_only, reference, t, size, with_gradient=points.requires_grad))


def _block_size(points: Tensor, t: float, block_size: int | None) -> int:
    if points.dim() != 2:
        raise CmkdError(f"expected points of shape (n, dim), got {tuple(points.shape)}; flatten each sample first")
    size = (256 if points.device.type == "cpu" else 4096) if block_size is None else block_size
    if not t > 0 or size < 1:
        raise CmkdError(f"expected t and block_size above 0, got {t} and {size}")
    return size


def nearest_neighbors(
    queries: Tensor, points: Tensor, *, count: int, skip_self: bool = False, block_size: int = 1024
) -> tuple[Tensor, Tensor]:
    """Find the nearest `points` of each query by Euclidean distance, exactly, in blocks of queries.

    Args:
        queries: ``(n, dim)``.
        points: ``(m, dim)``.
        count: neighbors per query, at most m (m - 1 with `skip_self`).
        skip_self: exclude point i from the neighbors of query i; set it if queries and points are the same.
        block_size: queries per block; memory is O(block_size m).

    Returns:
        Squared distances ``(n, count)``, ascending, and int64 positions ``(n, count)``. A NaN query has NaN distances.

    Raises:
        CmkdError: if there are fewer points than `count`.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [3.0]])
        >>> nearest_neighbors(x, x, count=1, skip_self=True)[1].flatten().tolist()
        [1, 0, 1]
    """
    available = points.shape[0] - int(skip_self)
    if not 1 <= count <= available:
        raise CmkdError(f"cannot find {count} nearest neighbors among {available} points")
    center = points.mean(0)
    queries, points = queries - center, points - center
    found = []
    with torch.autocast(points.device.type, enabled=False):
        for start in range(0, queries.shape[0], block_size):
            distances = squared_distances(queries[start : start + block_size], points)
            if skip_self:
                rows = torch.arange(distances.shape[0], device=distances.device)
                distances[rows, rows + start] = torch.inf
            found.append(distances.topk(count, dim=1, largest=False))
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


class _KnownGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, value: Tensor, gradient: Tensor) -> Tensor:  # noqa: ANN401  # untyped context
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (gradient,) = ctx.saved_tensors
        return outer[0] * gradient, None, None


def _differentiable(points: Tensor, value: Tensor, gradient: Tensor | None) -> Tensor:
    """Return `value`, with `gradient` as its gradient with respect to `points`."""
    if gradient is None:
        return value
    result: Tensor = _KnownGradient.apply(points, value, gradient)  # type: ignore[no-untyped-call]
    return result


def _blocks(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Yield the blocks on and above the diagonal that contain a pair."""
    for row in range(0, n, size):
        rows = slice(row, min(row + size, n))
        if rows.stop - rows.start > 1:
            yield rows, rows
        for column in range(rows.stop, n, size):
            yield rows, slice(column, min(column + size, n))


def _factors(points: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``left`` and ``right``, with ``left_i . right_j = -t |x_i - x_j|²``, and ``(x, 1)``; x is centered."""
    # centering does not change distances, and then their expansion into squares loses fewer digits
    x = points - points.mean(0)
    squares, one = -t * x.square().sum(1, keepdim=True), x.new_ones(x.shape[0], 1)
    return torch.cat([2.0 * t * x, squares, one], 1), torch.cat([x, one, squares], 1), torch.cat([x, one], 1)


def _value_and_gradient(points: Tensor, t: float, size: int, *, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    n = points.shape[0]
    left, right, weighted = _factors(points, t)
    x = weighted[:, :-1]
    sums = torch.zeros_like(weighted) if with_gradient else None
    exact = widest(x.device)
    total = x.new_zeros((), dtype=exact)  # 10^9 float32 terms of one size would lose digits
    shift: Tensor | None = None
    for rows, columns in _blocks(n, size):
        exponent = (left[rows] @ right[columns].T).clamp_(max=0.0)
        if rows == columns:
            below = torch.ones_like(exponent, dtype=torch.bool).tril_()
            exponent.masked_fill_(below, -torch.inf)
        highest = exponent.amax().to(exact)
        if shift is None:
            shift = highest
        elif bool(highest > shift + _RESCALE_ABOVE):  # synchronizes a GPU, but only after the first block
            factor = (shift - highest).exp()
            total = total * factor
            if sums is not None:
                sums *= factor
            shift = highest
        weight = exponent.sub_(shift).exp_()
        total = total + weight.sum(dtype=exact)
        if sums is not None:
            sums[rows] += weight @ weighted[columns]
            sums[columns] += weight.T @ weighted[rows]
    assert shift is not None  # two or more points form at least one block
    value = (total.log() + shift - torch.tensor(n * (n - 1) / 2, dtype=exact).log()).to(x.dtype)
    if sums is None:
        return value, None
    gradient = (x * sums[:, -1:] - sums[:, :-1]) * (-2.0 * t / total).to(x.dtype)
    return value, gradient


def _discrepancy(
    points: Tensor, reference: Tensor, t: float, size: int, *, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    n = points.shape[0]
    left, right, weighted = _factors(points, t)
    left_reference, right_reference, _ = _factors(reference, t)
    sums = torch.zeros_like(weighted) if with_gradient else None
    exact = widest(points.device)
    total, norm = (points.new_zeros((), dtype=exact) for _ in range(2))
    for rows, columns in _blocks(n, size):
        ours = (left[rows] @ right[columns].T).clamp_(max=0.0).exp_()
        theirs = (left_reference[rows] @ right_reference[columns].T).clamp_(max=0.0).exp_()
        if rows == columns:
            ours, theirs = ours.triu_(1), theirs.triu_(1)
        norm = norm + theirs.square().sum(dtype=exact)
        difference = theirs.neg_().add_(ours)
        total = total + difference.square().sum(dtype=exact)
        if sums is not None:
            weight = difference.mul_(ours)
            sums[rows] += weight @ weighted[columns]
            sums[columns] += weight.T @ weighted[rows]
    norm = norm.clamp(min=1e-12 * n * (n - 1) / 2)
    value = (total / norm).to(points.dtype)
    if sums is None:
        return value, None
    gradient = (weighted[:, :-1] * sums[:, -1:] - sums[:, :-1]) * (-4.0 * t / norm).to(points.dtype)
    return value, gradient
