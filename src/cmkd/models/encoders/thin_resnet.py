"""Thin residual networks: small enough to train on a CPU in minutes, for images from 8 to 224 pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.options import Count, Depth

FEW_CHANNELS = 8
"""Number of input channels below which a strided 1 x 1 convolution uses `_Subsampled`."""


class _Subsampled(nn.Conv2d):
    """A strided 1 x 1 convolution, computed without a stride on the pixels that it keeps.

    With few channels on CPUs without AVX-512, the gradient of torch's own strided convolution (oneDNN 3.12) writes
    beyond its memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x[..., :: self.stride[0], :: self.stride[1]], self.weight, self.bias)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.second_norm.weight)  # every block starts as its shortcut
        layer = _Subsampled if stride > 1 and inputs < FEW_CHANNELS else nn.Conv2d
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(layer(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


class ThinResNet(nn.Module):
    """A CIFAR-style ResNet (He et al. 2016, arXiv 1512.03385, section 4.2) of free width.

    The stem halves images of 48 pixels and more, and halves them twice from 128 pixels on. The first stage therefore
    sees at most 64 pixels per side, for images of up to 256.

    Args:
        shape: shape of an input image, ``(channels, height, width)``.
        width: channels of the first stage; each later stage doubles them.
        stages: number of stages; each is one of the maps.
        blocks: number of residual blocks per stage.

    Example:
        >>> import torch
        >>> embedding, maps = ThinResNet((1, 8, 8))(torch.zeros(2, 1, 8, 8))
        >>> embedding.shape, [tuple(m.shape[1:]) for m in maps]
        (torch.Size([2, 64]), [(16, 8, 8), (32, 4, 4), (64, 2, 2)])
    """

    name = "thin_resnet"
    kinds = ("image",)

    def __init__(self, shape: tuple[int, int, int], *, width: Count = 16, stages: Depth = 3, blocks: Depth = 1) -> None:
        super().__init__()
        channels, size = shape[0], min(shape[1:])
        stem: list[nn.Module] = [nn.Conv2d(channels, width, 3, 2 if size >= 48 else 1, 1, bias=False)]
        stem += [nn.BatchNorm2d(width), nn.ReLU()] + ([nn.MaxPool2d(3, 2, 1)] if size >= 128 else [])
        self.stem = nn.Sequential(*stem)
        self.stages = nn.ModuleList()
        inputs = width
        for stage in range(stages):
            outputs = width * 2**stage
            made: Sequence[nn.Module] = [
                _Block(inputs if block == 0 else outputs, outputs, stride=2 if stage > 0 and block == 0 else 1)
                for block in range(blocks)
            ]
            self.stages.append(nn.Sequential(*made))
            inputs = outputs

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return embedding and maps of images ``(batch, channels, height, width)``."""
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return x.mean((2, 3)), tuple(maps)
