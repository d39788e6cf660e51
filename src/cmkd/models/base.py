"""Models: preprocessing, an encoder, and a linear classifier; every model returns an `Output`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from itertools import chain, combinations
from typing import ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cmkd.distributed import anywhere
from cmkd.errors import CmkdError, in_one_line
from cmkd.models.scaling import curve
from cmkd.models.wrapping import Wrapped
from cmkd.registry import Registry
from cmkd.types import Kind, Modality, Output


class Encoder(Protocol):
    """Protocol of the encoders in `cmkd.models.encoders` and in plug-ins, which compute features of a float32 input.

    An encoder is an ``nn.Module`` built from the shape of its input, ``__init__(shape, *, typed keyword options)``,
    with the class attributes ``name`` and ``kinds`` (the kinds of modality it reads). An encoder that needs a smaller
    learning rate than small networks do sets an attribute ``learning_rate``. If layers other than the first read the
    input, an attribute ``input_layers`` names all layers that do.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]]

    def __call__(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the embedding ``(batch, dim)`` and the maps ``(batch, channels, height, width)``, shallow to deep."""
        ...


ENCODERS: Registry[nn.Module] = Registry("encoder", "cmkd.models.encoders", nn.Module, group="cmkd.encoders")
"""All encoders by name. Plug-ins add theirs through entry points of the group ``cmkd.encoders``."""


class Preprocess(nn.Module):
    """Convert stored samples of any dtype to standardized float32, as part of the model, its checkpoint and its export.

    Args:
        modality: modality whose mean and standard deviation standardize each channel. Padding points stay zero.
        size: height and width to resize images to (bilinear, antialiased); None keeps them.
        scaling: ``linear`` standardizes the stored values; ``log`` and ``rank`` transform them first
            (`cmkd.models.scaling`).
        values: values of training pairs, ``(n, channels)``, for ``log`` and ``rank``.
    """

    def __init__(
        self,
        modality: Modality,
        *,
        size: int | None = None,
        scaling: str = "linear",
        values: NDArray[np.floating] | None = None,
    ) -> None:
        super().__init__()
        if size is not None and modality.kind != "image":
            raise CmkdError(f"size applies only to images, but '{modality.name}' is of kind {modality.kind}")
        self.size = None if size is None or modality.shape[1:] == (size, size) else (size, size)
        self.padded = modality.kind in ("points", "point_series")
        self.shape = modality.shape
        self.scaling, self.curve = scaling, curve(scaling, values)
        self.axis, view = (1, (-1, 1, 1)) if modality.kind == "image" else (-1, (-1,))
        mean, std = (torch.tensor(known, dtype=torch.float32) for known in (modality.mean, modality.std))
        if self.curve is not None:
            stored = torch.tensor(values, dtype=torch.float32)
            scaled = self.curve(stored, -1).double()
            mean, std = scaled.mean(0), scaled.std(0, correction=0)
            std[stored.amax(0) == stored.amin(0)] = 1.0  # by range: rounding can give a constant a deviation
        self.register_buffer("mean", mean.float().view(view))
        self.register_buffer("std", std.float().view(view))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Scale and standardize ``(batch, *modality.shape)``."""
        if x.shape[1:] != self.shape:
            raise CmkdError(f"expected samples of shape {self.shape}, got {tuple(x.shape[1:])}")
        x = x.float()
        padding = (x == 0).all(-1, keepdim=True) if self.padded else None
        if self.curve is not None:
            x = self.curve(x, self.axis)
        x = (x - self.mean) / self.std
        if padding is not None:
            x = x.masked_fill(padding, 0.0)
        if self.size is not None:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True, align_corners=False)
        return x

    def of_part(self, part: Modality, start: int) -> Preprocess:
        """Return a copy for a modality that has some of the channels, from channel `start` on."""
        made, channels = copy.deepcopy(self), slice(start, start + part.channels)
        made.shape = part.shape
        for module in made.modules():
            for name, value in module.named_buffers(recurse=False):
                module.register_buffer(name, value[channels])
        return made


class Model(nn.Module):
    """A classifier of one modality: preprocessing, then an encoder with a linear classifier, or a wrapped module.

    Args:
        modality: modality that the model reads.
        encoder: a module that implements `Encoder`, or a `Wrapped` module, which has its own classifier.
        classes: number of classes.
        size: side to which images are resized; None keeps the modality's size.
        scaling: scaling of the stored values, see `Preprocess`.
        values: values of training pairs, see `Preprocess`.

    Attributes:
        spec: shapes of the model's output.
        classifier: layer from embedding to logits.
        learning_rate: peak rate for AdamW and a batch of 128, used if the configuration sets none.

    Raises:
        CmkdError: if a wrapped module has another number of classes or does not run on this modality.
    """

    def __init__(
        self,
        modality: Modality,
        encoder: nn.Module,
        *,
        classes: int,
        size: int | None = None,
        scaling: str = "linear",
        values: NDArray[np.floating] | None = None,
    ) -> None:
        super().__init__()
        self.modality = modality
        self.learning_rate = float(getattr(encoder, "learning_rate", 1e-2))
        self.preprocess = Preprocess(modality, size=size, scaling=scaling, values=values)
        self.encoder = encoder
        with torch.no_grad():
            encoder.eval()
            if isinstance(encoder, Wrapped):
                output = _first_output(encoder, self.preprocess(torch.zeros(2, *modality.shape)), classes)
                self.classifier: nn.Module = encoder.classifier
            else:
                embedding, maps = _shapes(encoder, self.preprocess, modality.shape)
                self.classifier = nn.Linear(embedding.shape[1], classes)
                output = Output(embedding.new_zeros(2, classes), embedding, maps)
            encoder.train()
        self.spec = output.spec()
        if modality.kind == "image":
            # channels last: faster for thin networks on a CPU, and the layout that tensor cores prefer
            for parameter in self.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Output:
        """Classify ``(batch, *modality.shape)`` of the stored dtype."""
        x = self.preprocess(x)
        if self.modality.kind == "image":
            # not `contiguous`, which leaves images of one channel as they are: the first layers would mix both layouts
            x = x.to(memory_format=torch.channels_last)
        output = self.encoder(x)
        if isinstance(output, Output):
            return output
        embedding, maps = output
        return Output(self.classifier(embedding), embedding, maps)

    def freeze(self) -> None:
        """Train only the classifier; in a model of several modalities, the classifier of each."""
        for part in self.modules():
            if isinstance(part, Model):
                part.encoder.requires_grad_(False)
                part.classifier.requires_grad_(True)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities that the model can read."""
        return (self.modality,)

    @property
    def scalings(self) -> dict[str, Preprocess]:
        """Modality name -> preprocessing that standardizes its values."""
        return {self.modality.name: self.preprocess}

    @property
    def subsets(self) -> tuple[tuple[str, ...], ...]:
        """Subsets of modality names that the model is run with; the first one is compared with other models."""
        names = [modality.name for modality in self.modalities]
        return tuple(chain.from_iterable(combinations(names, size + 1) for size in range(len(names))))

    def classify(
        self,
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        recorded: Mapping[str, Tensor] | None = None,
    ) -> Output:
        """Classify pairs from those of their modalities that the model reads.

        Args:
            inputs: modality name -> ``(batch, *modality.shape)``, as in `Batch.inputs`.
            present: modality name -> ``(batch,)`` bool, whether the pair is classified by this modality; by default
                all are used. A model of one modality ignores it.
            recorded: modality name -> ``(batch,)`` bool, whether `inputs` holds a recording and not a stand-in, as in
                `Batch.present`; by default `present`. Training may hide what is recorded.
        """
        output: Output = self(inputs[self.modality.name])
        return output


def run_on(rows: Tensor, run: Callable[[Tensor | slice], Output], model: nn.Module) -> Output:
    """Run a model in training on some rows of a batch only, so that other rows do not enter its batch statistics.

    If any process has fewer than two such rows, batch normalization uses its running statistics and does not update
    them, in all processes, since processes that train together share batch statistics.

    Args:
        rows: ``(batch,)`` bool, true for the rows to run; counting them waits for the GPU.
        run: runs the model on a selection of the batch's rows.
        model: the model that `run` runs.

    Returns:
        The output on the whole batch; its values for the other rows are meaningless.
    """
    if not model.training:
        return run(slice(None))
    count = int(rows.sum())
    if anywhere(count < min(2, len(rows)), rows.device):
        norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm) and norm.training]
        for norm in norms:
            norm.eval()
        output = run(slice(None))
        for norm in norms:
            norm.train()
        return output
    if count == len(rows):
        return run(slice(None))
    return run(rows).map(lambda some: some.new_zeros(len(rows), *some.shape[1:]).index_put((rows,), some))


def _shapes(encoder: nn.Module, preprocess: Preprocess, shape: tuple[int, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return an encoder's output for two samples, on the meta device if possible: large images then take no memory.

    Point sets are the exception, since the shapes inside their encoder depend on the values.
    """
    try:
        zeros = torch.zeros(2, *shape, device="meta")
        output: tuple[Tensor, tuple[Tensor, ...]] = without_values(encoder)(without_values(preprocess)(zeros))
    except RuntimeError as error:
        if not needs_values(error):
            raise
        output = encoder(preprocess(torch.zeros(2, *shape)))
    return output


def needs_values(error: RuntimeError) -> bool:
    """Return whether a module failed only because it was run without values, on the meta device."""
    return "meta" in str(error).lower()


def without_values(module: nn.Module) -> nn.Module:
    """Return a copy of a module on the meta device; no memory is allocated for its tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    empty = {
        id(t): nn.Parameter(t.detach().to("meta"), t.requires_grad) for t in tensors if isinstance(t, nn.Parameter)
    }
    return copy.deepcopy(module, {id(t): t.to("meta") for t in tensors} | empty)


def _first_output(encoder: Wrapped, sample: Tensor, classes: int) -> Output:
    name = type(encoder.module).__name__
    with in_one_line(f"{name} fails on an input of shape {tuple(sample.shape)}"):
        output: Output = encoder(sample)
    if output.logits.shape[1] != classes:
        raise CmkdError(f"{name} has {output.logits.shape[1]} classes, but the data have {classes}")
    return output
