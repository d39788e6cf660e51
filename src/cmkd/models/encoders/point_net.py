"""PointNet over frames, for point sets and series of point sets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.models.encoders.series_net import SeriesEncoder
from cmkd.options import BelowOne, Count, Depth


class PointEncoder(nn.Module):
    """PointNet (Qi et al. 2017, arXiv 1612.00593) on each frame, then a `SeriesEncoder` over the frames.

    The same layers process every point, and each frame is described by the maximum and the mean over its points and by
    the logarithm of their number, so the order of the points does not matter. Rows that are all zero are padding and
    are left out. A set without a time axis is a series of one frame.

    Args:
        shape: shape of an input, ``(points, features)`` or ``(time, points, features)``.
        width: width of the layers on points and of the first temporal stage.
        stages: number of temporal stages.
        dropout: dropout probability inside temporal blocks.
    """

    name = "point_net"
    kinds = ("points", "point_series")

    def __init__(
        self, shape: tuple[int, ...], *, width: Count = 64, stages: Depth = 2, dropout: BelowOne = 0.2
    ) -> None:
        super().__init__()
        time, features = shape[0] if len(shape) == 3 else 1, shape[-1]
        self.first, self.second = nn.Linear(features, width), nn.Linear(width, width)
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.frames = SeriesEncoder((time, 2 * width + 1), width=width, stages=stages, dropout=dropout, motion=False)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return embedding and maps of ``(batch, time, points, features)`` or ``(batch, points, features)``."""
        if x.dim() == 3:
            x = x[:, None]
        batch, time, points, features = x.shape
        real = (x != 0).any(-1)
        # the layers process real points only: radar frames are mostly padding (three quarters of MARS)
        place = real.flatten().nonzero()[:, 0]
        inner = F.relu(self.first_norm(self.first(x.reshape(-1, features)[place])))
        inner = F.relu(self.second_norm(self.second(inner)))
        home = (place // points)[:, None].expand_as(inner)
        empty = inner.new_zeros(batch * time, inner.shape[1])
        most = empty.scatter_reduce(0, home, inner, "amax")  # after the ReLU, 0 is the minimum
        count = real.sum(2).to(inner.dtype).view(-1, 1)
        mean = empty.scatter_add(0, home, inner) / count.clamp(min=1)
        frame = torch.cat([mean, most, count.log1p()], 1)
        frame = frame.view(batch, time, frame.shape[1])  # not -1, for an empty batch
        embedding, maps = self.frames.over_channels(frame.transpose(1, 2))
        return embedding, (frame.transpose(1, 2)[..., None], *maps)
