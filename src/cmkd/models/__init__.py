"""Models by name: an encoder for each kind of modality, any timm backbone for images."""

from __future__ import annotations

from cmkd.errors import CmkdError
from cmkd.expression import parse_call
from cmkd.models.base import ENCODERS as ENCODERS
from cmkd.models.base import Model as Model
from cmkd.models.base import Preprocess as Preprocess
from cmkd.options import check
from cmkd.types import Modality

DEFAULTS = {
    "image": "thin_resnet",
    "vector": "mlp",
    "series": "series_net",
    "points": "point_net",
    "point_series": "point_net",
}
"""The encoder that ``auto`` means for each kind of modality."""


def build(name: str, modality: Modality, *, classes: int, pretrained: bool = False, size: int | None = None) -> Model:
    """Build a classifier of one modality.

    Args:
        name: ``auto``, one of this package's encoders with options in brackets (``thin_resnet(width=32)``), or a timm
            model (``resnet18``, ``convnext_atto``), images only.
        modality: what it will see.
        classes: number of classes.
        pretrained: start from published weights (timm models only). Never done silently.
        size: resize images to this many pixels a side before the encoder.

    Raises:
        CmkdError: unknown name or option, or a model that cannot see this kind of modality.

    Example:
        >>> radar = Modality("radar", "image", (1, 32, 32), "uint8", (20.0,), (30.0,))
        >>> build("thin_resnet(width=8)", radar, classes=8).spec
        Spec(classes=8, dim=32, map_shapes=((8, 32, 32), (16, 16, 16), (32, 8, 8)))
    """
    call = parse_call(DEFAULTS[modality.kind] if name == "auto" else name)
    if call.name not in ENCODERS:
        return _timm(call.name, modality, classes=classes, pretrained=pretrained, size=size, options=call.options)
    encoder = ENCODERS[call.name]
    kinds = getattr(encoder, "kinds", ())
    if modality.kind not in kinds:
        raise CmkdError(
            f"model '{call.name}' reads {' or '.join(kinds)}, and '{modality.name}' is of kind {modality.kind}; "
            f"try '{DEFAULTS[modality.kind]}'"
        )
    if pretrained:
        raise CmkdError(f"there are no pretrained weights for '{call.name}'; choose a timm model, or pretrained=false")
    check(call.name, encoder, call.options)
    shape = (modality.shape[0], size, size) if size and modality.kind == "image" else modality.shape
    return Model(modality, encoder(shape, **call.options), classes=classes, size=size)


def _timm(name: str, modality: Modality, *, classes: int, pretrained: bool, size: int | None, options: object) -> Model:
    from cmkd.models.timm_backbone import TimmEncoder, check_name, wanted_size

    if modality.kind != "image":
        raise CmkdError(
            f"'{name}' is not an encoder for {modality.kind} ('{modality.name}'); try '{DEFAULTS[modality.kind]}'"
        )
    check_name(name)
    if options:
        raise CmkdError(f"timm model '{name}' takes no options here")
    smallest = 32  # most backbones stride by 32 and need one position left
    size = size or wanted_size(name) or (smallest if min(modality.shape[1:]) < smallest else None)
    side = size or min(modality.shape[1:])
    return Model(
        modality, TimmEncoder(name, modality.channels, side, pretrained=pretrained), classes=classes, size=size
    )
