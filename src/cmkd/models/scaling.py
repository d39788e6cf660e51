"""Scalings of stored values, which `Preprocess` applies to each channel before it standardizes.

A few large values dominate the standard deviation of a heavy-tailed channel, such as radar intensity, so standardizing
leaves most values in a narrow band. `Log` and `Rank` spread them. Both are increasing functions, fixed before training
from values of training pairs.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmkd.errors import CmkdError, unknown_name
from cmkd.types import Scaling

SCALINGS: tuple[Scaling, ...] = get_args(Scaling)
KNOTS = 65
"""Number of quantiles of a `Rank`: a power of two plus one, so that a bisection takes log2(KNOTS - 1) steps."""
INTENSITY_QUANTILE = 0.1
"""Quantile of intensities above which `Log` is logarithmic; below it, speckle has no long tail toward zero."""
LARGEST_RATIO = 1e6
"""Upper limit of the distance from the center in units of the scale: one odd value near zero cannot set the scale."""


class Log(nn.Module):
    """Logarithm of the distance from a center: ``sign(u) log(1 + |u|)`` with ``u = (x - center) / scale``.

    A channel without negative values is treated as an intensity: its center is 0 and its scale is a low quantile of the
    positive values. Nearly all values are then in the logarithmic part, where speckle, which is multiplicative, has the
    same spread at every brightness. In other channels, the center is the median and the scale is the median distance
    from it. Mean and standard deviation would follow the few largest values and leave all others in the linear part.

    Args:
        values: values of training pairs, ``(n, channels)``.

    Example:
        >>> log = Log(np.array([[0.0], [1.0], [1.0], [10.0], [1000.0]]))  # its scale is 1
        >>> [round(value, 2) for value in log(torch.tensor([[0.0], [1.0], [1000.0]]), -1).flatten().tolist()]
        [0.0, 0.69, 6.91]
    """

    def __init__(self, values: NDArray[np.floating]) -> None:
        super().__init__()
        found = np.array([_center_and_scale(channel) for channel in values.T])
        self.register_buffer("center", torch.tensor(found[:, 0], dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(found[:, 1], dtype=torch.float32))
        self.center: Tensor
        self.scale: Tensor

    def forward(self, x: Tensor, axis: int) -> Tensor:
        """Scale float32 values whose channels lie along `axis`."""
        view = [1] * x.dim()
        view[axis] = -1
        distance = (x - self.center.view(view)) / self.scale.view(view)
        return distance.sign() * distance.abs().log1p()

    def inverse(self, x: Tensor) -> Tensor:
        """Return the values, channels last, that have the given scaled values."""
        return self.center + self.scale * x.sign() * x.abs().expm1()


def _center_and_scale(channel: NDArray[np.floating]) -> tuple[float, float]:
    intensity = channel.min() >= 0
    center = 0.0 if intensity else float(np.median(channel))
    distance = np.abs(channel - center)
    distance = distance[distance > 0]
    if not distance.size:
        return center, 1.0
    scale = np.quantile(distance, INTENSITY_QUANTILE if intensity else 0.5)
    return center, float(max(scale, distance.max() / LARGEST_RATIO))


class Rank(nn.Module):
    """Fraction of the training values below a value, interpolated linearly between `KNOTS` quantiles.

    A value that many samples share, such as a clipped zero, gets the middle of its ranks. Values outside the training
    values get the rank of the nearest one. Indices come from a bisection with plain tensor operations, since ONNX has
    no operator for ``searchsorted``.

    Args:
        values: values of training pairs, ``(n, channels)``.

    Example:
        >>> rank = Rank(np.array([[0.0], [0.0], [1.0], [3.0], [100.0]]))
        >>> rank(torch.tensor([[-5.0], [0.0], [1.0], [2.0], [1e9]]), -1).flatten().tolist()
        [0.125, 0.125, 0.5, 0.625, 1.0]
    """

    def __init__(self, values: NDArray[np.floating]) -> None:
        super().__init__()
        even = np.linspace(0.0, 1.0, KNOTS)
        knots = np.quantile(values, even, axis=0).T.astype(np.float32)
        middle = [
            (even[np.searchsorted(k, k, "left")] + even[np.searchsorted(k, k, "right") - 1]) / 2 for k in knots
        ]  # middle of the ranks of equal knots
        self.register_buffer("knots", torch.tensor(knots))
        self.register_buffer("ranks", torch.tensor(np.array(middle), dtype=torch.float32))
        self.knots: Tensor
        self.ranks: Tensor

    def forward(self, x: Tensor, axis: int) -> Tensor:
        """Scale float32 values whose channels lie along `axis`."""
        channels_first = x.movedim(axis, 0)
        flat = channels_first.flatten(1).clamp(self.knots[:, :1], self.knots[:, -1:])
        lower, step = torch.zeros_like(flat, dtype=torch.int64), KNOTS // 2
        while step:  # find the last knot that is not above the value, apart from the largest knot
            further = lower + step
            lower, step = torch.where(flat >= self.knots.gather(1, further), further, lower), step // 2
        low, high = self.knots.gather(1, lower), self.knots.gather(1, lower + 1)
        inside = (flat - low) / (high - low).clamp(min=torch.finfo(torch.float32).tiny)
        rank = (lower + inside) / (KNOTS - 1)
        rank = torch.where(flat == low, self.ranks.gather(1, lower), rank)
        return rank.view(channels_first.shape).movedim(0, axis)

    def inverse(self, x: Tensor) -> Tensor:
        """Return the values, channels last, that have the given ranks; ranks are clipped to [0, 1]."""
        place = x.movedim(-1, 0).flatten(1).clamp(0.0, 1.0) * (KNOTS - 1)
        lower = place.long().clamp(max=KNOTS - 2)
        low, high = self.knots.gather(1, lower), self.knots.gather(1, lower + 1)
        return (low + (high - low) * (place - lower)).view(x.movedim(-1, 0).shape).movedim(0, -1)


def curve(scaling: str, values: NDArray[np.floating] | None) -> Log | Rank | None:
    """Return the transformation of the values before they are standardized; None for no transformation.

    Args:
        scaling: one of `SCALINGS`.
        values: values of training pairs, ``(n, channels)``; not needed for ``linear``.

    Raises:
        CmkdError: if the scaling is unknown, or its values are missing.
    """
    if scaling not in SCALINGS:
        raise unknown_name("scaling", scaling, SCALINGS)
    if scaling == "linear":
        return None
    if values is None or not len(values):
        raise CmkdError(f"scaling '{scaling}' needs values of training pairs: models.build(..., values=(n, channels))")
    return Log(values) if scaling == "log" else Rank(values)
