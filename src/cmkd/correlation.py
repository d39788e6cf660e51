"""Correlation of channels over a batch."""

from __future__ import annotations

from torch import Tensor

from cmkd.ops import check_pair, in_float32, standardize


@in_float32
def cross_correlation(x: Tensor, y: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Return the correlation of each channel of `x` with each of `y`: ``x̂ᵀ ŷ / n``, ``(dim of x, dim of y)``.

    Args:
        x: ``(n, dim)``, float32 or wider; standardized per channel here, with biased variance.
        y: ``(n, other dim)``.
        eps: added to the variances; a constant channel has correlation 0 with all others.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> (cross_correlation(x, -x[:, :1]).round(decimals=3) + 0.0).tolist()  # a zero may have either sign
        [[-1.0], [0.0]]
    """
    check_pair(x, y)
    return standardize(x, eps=eps).T @ standardize(y, eps=eps) / max(x.shape[0], 1)
