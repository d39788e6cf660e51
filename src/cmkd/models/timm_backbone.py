"""Any timm backbone by name, on any number of channels and any image size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from cmkd.errors import CmkdError, unknown_name
from cmkd.models.base import ENCODERS, needs_values, without_values

_REPLACE = ContextVar("_REPLACE", default=True)


@contextmanager
def stem_of(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[None]:
    """Build backbones in the block with the stem that a file has; a stem of pretrained weights was not replaced.

    Args:
        shapes: name -> shape of each tensor of the file.
    """
    kernels = [shape[2:] for name, shape in shapes.items() if name.endswith("encoder.backbone.conv1.weight")]
    before = _REPLACE.set(not kernels or (3, 3) in kernels)
    try:
        yield
    finally:
        _REPLACE.reset(before)


class TimmEncoder(nn.Module):
    """Adapter for a timm model: its pooled features are the embedding, its stages are the feature maps.

    Images below 64 pixels are too small for the usual strides: unless the weights are pretrained, a ResNet-like stem
    (``conv1`` and ``maxpool``) is then replaced by a 3 x 3 convolution of stride 1, as is usual for CIFAR. Models with
    a fixed input size get images of that size (see `wanted_size`).

    Args:
        name: model name, as in ``timm.list_models()``; see `check_name`.
        channels: number of input channels.
        size: smaller side of the input in pixels.
        pretrained: load the published weights; raises a clear error without a network connection.

    Raises:
        CmkdError: if timm has no model of that name, or the pretrained weights cannot be loaded.
    """

    learning_rate = 1e-3

    def __init__(self, name: str, channels: int, size: int, *, pretrained: bool = False) -> None:
        super().__init__()
        import timm

        options: dict[str, Any] = {"in_chans": channels, "num_classes": 0, "pretrained": pretrained}
        if wanted_size(name) not in (None, size):
            options["img_size"] = size
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # timm's deprecation warnings do not concern the user
                self.backbone: Any = timm.create_model(name, **options)
        except Exception as error:  # hub clients raise many kinds of error
            check_name(name)
            if not pretrained:
                raise
            raise CmkdError(
                f"cannot load the pretrained weights of '{name}' ({type(error).__name__}): they come from the Hugging "
                "Face hub; check the network, or train from scratch with pretrained=false"
            ) from error
        if size < 64 and not pretrained and _REPLACE.get():
            _fit_stem(self.backbone, channels)
        self._offers_maps = _offers_maps(self.backbone, channels, size)

    @property
    def input_layers(self) -> tuple[str, ...]:
        """Names of the layers that read the input, as timm states them."""
        first = self.backbone.default_cfg["first_conv"] or ()
        return tuple(f"backbone.{name}" for name in ([first] if isinstance(first, str) else first))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return embedding and maps of images ``(batch, channels, height, width)``."""
        if self._offers_maps:
            final, maps = self.backbone.forward_intermediates(x, output_fmt="NCHW")
        else:
            final = self.backbone.forward_features(x)
            maps = [final] if final.dim() == 4 else []
        return self.backbone.forward_head(final, pre_logits=True), tuple(maps)


def check_name(name: str) -> None:
    """Raise `CmkdError` with the nearest names if timm has no model of that name."""
    import timm

    network, dot, _ = name.partition(".")
    if not timm.is_model(network):
        near = get_close_matches(network, [*ENCODERS, *timm.list_models()], n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise CmkdError(f"unknown model '{name}': {hint}Known: {', '.join(ENCODERS)}, and the models of timm")
    if dot and name not in (known := timm.list_models(f"{network}.*", pretrained=True)):
        raise unknown_name("timm model", name, known)


def wanted_size(name: str) -> int | None:
    """Return the image size that a backbone requires (transformers with position embeddings), None for any size."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return int(config.input_size[-1]) if config is not None and config.fixed_input_size else None


def _fit_stem(backbone: nn.Module, channels: int) -> None:
    stem = getattr(backbone, "conv1", None)
    if isinstance(stem, nn.Conv2d) and isinstance(getattr(backbone, "maxpool", None), nn.Module):
        backbone.conv1 = nn.Conv2d(channels, stem.out_channels, 3, 1, 1, bias=stem.bias is not None)
        backbone.maxpool = nn.Identity()


def _offers_maps(backbone: Any, channels: int, size: int) -> bool:  # noqa: ANN401  # timm is untyped
    if not hasattr(backbone, "forward_intermediates"):
        return False
    was_training = backbone.training
    image = torch.zeros(1, channels, size, size, device="meta")
    try:
        with torch.no_grad():
            backbone.eval()
            try:
                empty: Any = without_values(backbone)
                empty.forward_intermediates(image, output_fmt="NCHW")
            except RuntimeError as error:
                if not needs_values(error):
                    raise
                backbone.forward_intermediates(torch.zeros(image.shape), output_fmt="NCHW")
    except (AssertionError, TypeError, NotImplementedError):
        return False
    finally:
        backbone.train(was_training)
    return True
