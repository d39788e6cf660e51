"""Small encoders for what is not an image: vectors, series, point sets and series of point sets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VectorEncoder(nn.Module):
    """A multi-layer perceptron with batch-norm.

    Args:
        features: of the input.
        width: of each hidden layer, and of the embedding.
        layers: number of hidden layers; each is one of the maps, ``(batch, width, 1, 1)``.
        dropout: probability after each layer.
    """

    def __init__(self, features: int, *, width: int = 128, layers: int = 2, dropout: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(features if i == 0 else width, width), nn.BatchNorm1d(width), nn.ReLU())
            for i in range(layers)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return embedding and maps of vectors ``(batch, features)``."""
        maps = []
        for layer in self.layers:
            x = self.dropout(layer(x))
            maps.append(x[:, :, None, None])
        return x, tuple(maps)


class _TemporalBlock(nn.Module):
    """Two convolutions over time around a shortcut, halving the time axis while there is enough of it."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm1d(outputs)
        self.second = nn.Conv1d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm1d(outputs)
        self.shortcut = nn.Conv1d(inputs, outputs, 1, stride, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(F.relu(self.first_norm(self.first(x))))
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


class SeriesEncoder(nn.Module):
    """A temporal residual network; long series (sound) are first brought below 256 steps by a strided stem.

    A short series is read beside its differences from step to step, normalised of themselves: how something changes
    carries over to a new person or place better than where it is.

    Args:
        features: channels of each time step.
        time: number of time steps.
        width: channels of the first stage; the others have twice as many. The embedding is mean and maximum over time.
        stages: number of stages; each is one of the maps, ``(batch, channels, time, 1)``.
        dropout: probability inside each block; unless given 0.2, and 0.5 for a series of at most 4 steps, which is
            soon learnt by heart.
        motion: read the differences too; a series of one step or of more than 256 has none.
    """

    def __init__(
        self,
        features: int,
        time: int,
        *,
        width: int = 64,
        stages: int = 3,
        dropout: float | None = None,
        motion: bool = True,
    ) -> None:
        super().__init__()
        if dropout is None:
            dropout = 0.5 if time <= 4 else 0.2
        self.motion_norm = nn.BatchNorm1d(features) if motion and 1 < time <= 256 else None
        if self.motion_norm is not None:
            features *= 2
        stem: list[nn.Module] = []
        while time > 256:
            stem += [nn.Conv1d(features, width, 9, 4, 4, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
            features, time = width, -(-time // 4)
        self.stem = nn.Sequential(*stem)
        self.stages = nn.ModuleList()
        inputs = features
        for stage in range(stages):
            outputs, stride = width * (1 if stage == 0 else 2), 2 if stage > 0 and time > 4 else 1
            self.stages.append(_TemporalBlock(inputs, outputs, stride=stride, dropout=dropout))
            inputs, time = outputs, -(-time // stride)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return embedding and maps of series ``(batch, time, features)``."""
        return self.over_channels(x.transpose(1, 2))

    def over_channels(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return embedding and maps of ``(batch, features, time)``."""
        if self.motion_norm is not None:
            x = torch.cat([x, self.motion_norm(torch.diff(x, dim=2, prepend=x[..., :1]))], 1)
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x[..., None])
        return torch.cat([x.mean(2), x.amax(2)], 1), tuple(maps)


class PointEncoder(nn.Module):
    """PointNet (Qi et al. 2017, arXiv 1612.00593) on each frame, then a `SeriesEncoder` over the frames.

    The same layers see every point, and each frame is the maximum and the mean over its points, so their order is of no
    account; rows that are all zero are padding and left out. A set without a time axis is a series of one frame.

    Args:
        features: of each point.
        time: number of frames.
        width: of the layers on points and of the first temporal stage.
        stages: temporal stages.
        dropout: probability inside temporal blocks.
    """

    def __init__(self, features: int, time: int, *, width: int = 64, stages: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, width), nn.Linear(width, width)
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.frames = SeriesEncoder(2 * width + 1, time, width=width, stages=stages, dropout=dropout, motion=False)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return embedding and maps of ``(batch, time, points, features)`` or ``(batch, points, features)``."""
        if x.dim() == 3:
            x = x[:, None]
        batch, time, points, features = x.shape
        real = (x != 0).any(-1)
        # the layers see real points alone: radar frames are mostly padding (three quarters of MARS)
        place = real.flatten().nonzero()[:, 0]
        inner = F.relu(self.first_norm(self.first(x.reshape(-1, features)[place])))
        inner = F.relu(self.second_norm(self.second(inner)))
        home = (place // points)[:, None].expand_as(inner)
        empty = inner.new_zeros(batch * time, inner.shape[1])
        most = empty.scatter_reduce(0, home, inner, "amax")  # after the rectifier 0 is the least
        count = real.sum(2).to(inner.dtype).view(-1, 1)
        mean = empty.scatter_add(0, home, inner) / count.clamp(min=1)
        frame = torch.cat([mean, most, count.log1p()], 1).view(batch, time, -1)
        embedding, maps = self.frames.over_channels(frame.transpose(1, 2))
        return embedding, (frame.transpose(1, 2)[..., None], *maps)
