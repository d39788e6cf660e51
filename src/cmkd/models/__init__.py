"""Models by name: an encoder for each kind of modality, and any timm backbone for images."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cmkd.errors import CmkdError, in_one_line, unknown_name
from cmkd.expression import parse_call
from cmkd.models.base import ENCODERS as ENCODERS
from cmkd.models.base import Model as Model
from cmkd.models.base import Preprocess as Preprocess
from cmkd.models.fused import FusedModel as FusedModel
from cmkd.models.stacked import StackedModel as StackedModel
from cmkd.models.stacked import stack as stack
from cmkd.models.wrapping import Wrapped as Wrapped
from cmkd.models.wrapping import wrap as wrap
from cmkd.options import check, plain
from cmkd.registry import is_reference, load_reference
from cmkd.types import Modality

DEFAULTS = {
    "image": "thin_resnet",
    "vector": "mlp",
    "series": "series_net",
    "points": "point_net",
    "point_series": "point_net",
}
"""Kind of modality -> encoder that ``auto`` selects."""


def build(
    model: object,
    modality: Modality,
    *,
    classes: int,
    pretrained: bool = False,
    size: int | None = None,
    scaling: str = "linear",
    values: NDArray[np.floating] | None = None,
) -> Model:
    """Build a classifier of one modality.

    Args:
        model: one of

            - ``auto``, or an encoder by name with options in brackets (``thin_resnet(width=32)``);
            - a timm model (``resnet18``, ``convnext_atto``), images only;
            - ``package.module:Name``, with or without options: a module, class or function of your own to import;
            - in Python, an ``nn.Module`` of your own or the result of `wrap`, of which a copy is used;
            - a class or function that returns an ``nn.Module``. It is called with ``modality`` and ``classes`` if it
              has parameters of these names.
        modality: modality that the model reads. Modules of your own get it scaled and standardized, as float32.
        classes: number of classes.
        pretrained: start from published weights (timm models only). Never done silently.
        size: resize images to this many pixels per side before the encoder.
        scaling: scaling of the stored values: ``linear``, ``log`` or ``rank`` (`cmkd.models.scaling`).
        values: values of training pairs, ``(n, channels)``, for ``log`` and ``rank``: `cmkd.data.train_values`.

    Raises:
        CmkdError: if a name or option is unknown, the model has no pretrained weights, or it cannot read this kind of
            modality.

    Example:
        >>> radar = Modality("radar", "image", (1, 32, 32), "uint8", (20.0,), (30.0,))
        >>> build("thin_resnet(width=8)", radar, classes=8).spec
        Spec(classes=8, dim=32, map_shapes=((8, 32, 32), (16, 16, 16), (32, 8, 8)))
    """
    made = partial(Model, modality, classes=classes, scaling=scaling, values=values)
    if not isinstance(model, str) or is_reference(model):
        if pretrained:
            raise CmkdError("pretrained is for networks of timm: let your own module load its weights itself")
        return made(own_module(model, modality, classes), size=size)
    encoder, size = build_encoder(model, modality, pretrained=pretrained, size=size)
    return made(encoder, size=size)


def build_encoder(
    name: str, modality: Modality, *, pretrained: bool = False, size: int | None = None
) -> tuple[nn.Module, int | None]:
    """Build an encoder by name; return it and the side to which images are resized, None for no resizing.

    The arguments are the same as for `build`.

    Raises:
        CmkdError: if a name or option is unknown, or the model cannot read this kind of modality.
    """
    call = parse_call(DEFAULTS[modality.kind] if name == "auto" else name)
    if call.name not in ENCODERS:
        return _timm(call.name, modality, pretrained=pretrained, size=size, options=call.options)
    encoder = ENCODERS[call.name]
    kinds = getattr(encoder, "kinds", ())
    if modality.kind not in kinds:
        raise CmkdError(
            f"model '{call.name}' reads {' or '.join(kinds)}, but '{modality.name}' is of kind {modality.kind}; "
            f"try '{DEFAULTS[modality.kind]}'"
        )
    if pretrained:
        raise CmkdError(f"'{call.name}' has no pretrained weights; choose a timm model, or pretrained=false")
    check(call.name, encoder, call.options)
    shape = (modality.shape[0], size, size) if size and modality.kind == "image" else modality.shape
    return encoder(shape, **call.options), size


def own_module(
    model: object, modality: Modality, classes: int, layers: Mapping[str, Any] = MappingProxyType({})
) -> Wrapped:
    """Create or copy your own module as `build` does, and wrap it with the names in `layers` unless it is wrapped."""
    options: Mapping[str, Any] = {}
    if isinstance(model, str):
        place, _, text = model.partition(":")
        call = parse_call(text)
        model, options = load_reference(f"{place}:{call.name}"), call.options
    if isinstance(model, nn.Module):
        made: object = copy.deepcopy(model)  # the caller's module is never trained
    elif callable(model):
        known = inspect.signature(model).parameters
        for option in options:
            if option not in known:
                raise unknown_name(f"option of {plain(model)}", option, known)
        if hasattr(model, "kinds") and "shape" in known:
            raise CmkdError(
                f"{plain(model)} is an encoder, without a classifier: name it by an entry point of the group "
                "'cmkd.encoders' (docs/extending.md), or give a model that returns logits"
            )
        given = {"modality": modality, "classes": classes}
        with in_one_line(f"{plain(model)} cannot be called with {', '.join(options) or 'no options'}"):
            made = model(**{name: value for name, value in given.items() if name in known} | dict(options))
    else:
        made = model
    if not isinstance(made, nn.Module):
        raise CmkdError(f"a model must be a name, an nn.Module, or a factory of one; got {type(made).__name__}")
    return made if isinstance(made, Wrapped) else wrap(made, **layers)


def _timm(
    name: str, modality: Modality, *, pretrained: bool, size: int | None, options: object
) -> tuple[nn.Module, int | None]:
    """Return a timm backbone and the side to which its images are resized, None for no resizing."""
    from cmkd.models.timm_backbone import TimmEncoder, check_name, wanted_size

    if modality.kind != "image":
        raise CmkdError(
            f"'{name}' is not an encoder for {modality.kind} ('{modality.name}'); try '{DEFAULTS[modality.kind]}'"
        )
    check_name(name)
    if options:
        raise CmkdError(f"timm model '{name}' takes no options; remove them")
    smallest = 32  # most backbones stride by 32 and need one position left
    size = size or wanted_size(name) or (smallest if min(modality.shape[1:]) < smallest else None)
    side = size or min(modality.shape[1:])
    what = (
        f"timm model '{name}' cannot be built for images of {side} pixels a side; try a larger size, or another model"
    )
    with in_one_line(what):
        return TimmEncoder(name, modality.channels, side, pretrained=pretrained), size
