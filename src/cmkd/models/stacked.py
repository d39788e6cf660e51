"""A model that reads several modalities as the channels of one input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmkd.errors import CmkdError
from cmkd.models.base import Model, Preprocess
from cmkd.types import Modality, Output

STACKED = ("image", "vector", "series")
"""Kinds of modality whose channels can be stacked. Points cannot: each modality has its own padding."""


class StackedModel(Model):
    """One encoder for the channels of several modalities (early fusion), for a teacher that sees all of them.

    Unlike a `FusedModel`, the encoder can relate positions of one modality to those of another, so modalities should be
    co-registered. A modality that a pair lacks is replaced by its mean.

    Args:
        modalities: modalities that the model reads, of one kind and of equal size apart from the number of channels.
        encoder: encoder as for `Model`, for samples of the shape of `stack`.
        classes: number of classes.
        size: side to which images are resized, see `Model`.
        scaling: scaling of the stored values, see `Model`.
        values: values of training pairs with all channels, see `Model`.

    Raises:
        CmkdError: if the modalities cannot be stacked.

    Example:
        >>> from cmkd import models
        >>> optical = Modality("optical", "image", (3, 16, 16), "uint8", (90.0,) * 3, (40.0,) * 3)
        >>> radar = Modality("radar", "image", (1, 16, 16), "float32", (-12.0,), (3.0,))
        >>> encoder, _ = models.build_encoder("thin_resnet(width=8)", stack([optical, radar]))
        >>> model = StackedModel([optical, radar], encoder, classes=8).eval()
        >>> pair = {"optical": torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "radar": torch.zeros(2, 1, 16, 16)}
        >>> model.subsets, model.classify(pair).logits.shape
        ((('optical', 'radar'),), torch.Size([2, 8]))
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        encoder: nn.Module,
        *,
        classes: int,
        size: int | None = None,
        scaling: str = "linear",
        values: NDArray[np.floating] | None = None,
    ) -> None:
        super().__init__(stack(modalities), encoder, classes=classes, size=size, scaling=scaling, values=values)
        self.parts = tuple(modalities)
        # made once: creating a tensor from numbers in each step would wait for the device
        self.register_buffer(
            "means", torch.tensor(self.modality.mean).view(self.preprocess.mean.shape), persistent=False
        )
        self.means: Tensor

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities that the model reads, in the order of the channels."""
        return self.parts

    @property
    def scalings(self) -> dict[str, Preprocess]:
        """Modality name -> preprocessing that standardizes its values."""
        starts = accumulate((part.channels for part in self.parts), initial=0)
        return {
            part.name: self.preprocess.of_part(part, start) for part, start in zip(self.parts, starts, strict=False)
        }

    @property
    def subsets(self) -> tuple[tuple[str, ...], ...]:
        """The subset of all modalities: the model is not run with fewer."""
        return super().subsets[-1:]

    def classify(
        self,
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        recorded: Mapping[str, Tensor] | None = None,
    ) -> Output:
        """Classify pairs; arguments as in `Model.classify`."""
        values = []
        for part, mean in zip(self.parts, self.means.split([part.channels for part in self.parts]), strict=True):
            x = inputs[part.name].float()
            if present is not None:
                x = torch.where(present[part.name].view(-1, *[1] * (x.dim() - 1)), x, mean)
            values.append(x)
        output: Output = self(torch.cat(values, 1 if self.modality.kind == "image" else -1))
        return output


def stack(modalities: Sequence[Modality]) -> Modality:
    """Return one modality with the channels of all, under the name of the first.

    Raises:
        CmkdError: if the modalities differ in kind or size, or are points.
    """
    first, *others = modalities
    for other in others:
        if other.kind != first.kind or first.kind not in STACKED or other.size != first.size:
            raise CmkdError(
                f"early fusion stacks channels of images, series or vectors of one size, but '{first.name}' "
                f"({first.kind} {first.shape}) and '{other.name}' ({other.kind} {other.shape}) differ; use fusion late"
            )
    channels = sum(part.channels for part in modalities)
    mean, std = (tuple(chain.from_iterable(getattr(part, name) for part in modalities)) for name in ("mean", "std"))
    shape = (channels, *first.size) if first.kind == "image" else (*first.size, channels)
    return Modality(first.name, first.kind, shape, "float32", mean, std)
