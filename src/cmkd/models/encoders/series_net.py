"""A temporal residual network for series."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.options import BelowOne, Count, Depth


class _TemporalBlock(nn.Module):
    """Two convolutions over time with a shortcut around them; a stride of 2 halves the time axis."""

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
    """A temporal residual network; a strided stem first shortens long series (sound) to at most 256 steps.

    A series of 2 to 256 steps is read together with its differences from step to step, normalized separately: changes
    carry over to a new person or place better than positions do. A series of 64 to 256 steps is halved in the first
    stage too.

    Args:
        shape: shape of an input series, ``(time, features)``.
        width: channels of the first stage; the others have twice as many.
        stages: number of stages; each is one of the maps, ``(batch, channels, time, 1)``.
        dropout: dropout probability inside each block; by default 0.2, and 0.5 for a series of at most 4 steps, which
            is quickly memorized.
        motion: whether to read the differences too; a series of one step or of more than 256 has none.
        parts: number of equal parts of the time axis. The embedding holds the mean over each part, which keeps early
            and late events apart, and the maximum over all. By default 4 for a series of 64 to 256 steps, else 1: our
            choice, made on the validation pairs of UTD-MHAD.
    """

    name = "series_net"
    kinds = ("series",)

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        width: Count = 64,
        stages: Depth = 3,
        dropout: BelowOne | None = None,
        motion: bool = True,
        parts: Count | None = None,
    ) -> None:
        super().__init__()
        time, features = shape
        if dropout is None:
            dropout = 0.5 if time <= 4 else 0.2
        many = 64 <= time <= 256
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
            outputs = width * (1 if stage == 0 else 2)
            stride = 2 if time > 4 and (stage > 0 or many) else 1
            self.stages.append(_TemporalBlock(inputs, outputs, stride=stride, dropout=dropout))
            inputs, time = outputs, -(-time // stride)
        self.parts = min(time, parts or (4 if many else 1))

    @property
    def input_layers(self) -> tuple[str, ...]:
        """Names of the layers that read the input."""
        return ("motion_norm", *(("stem.0",) if len(self.stem) else ("stages.0.first", "stages.0.shortcut")))

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
        return torch.cat([*(part.mean(2) for part in x.tensor_split(self.parts, 2)), x.amax(2)], 1), tuple(maps)
