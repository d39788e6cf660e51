"""Correlation of channels over a batch."""

from __future__ import annotations

from torch import Tensor

from cmkd.ops import check_pair, in_float32, standardize


def of_unit_scale(x: Tensor) -> Tensor:
    """Divide each channel ``(n, dim)`` by its root mean square, so that `eps` below is negligible for every channel.

    For example, probabilities over a thousand classes have variances near 1e-6. A channel of zeros stays as it is.

    Example:
        >>> import torch
        >>> of_unit_scale(torch.tensor([[0.002, 0.0], [0.002, 0.0]])).tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    scale = x.detach().square().mean(0).sqrt()
    return x / scale.where(scale > 1e-9, 1.0)


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
