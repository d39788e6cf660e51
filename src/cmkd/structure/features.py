"""Check and convert the inputs of the metrics: one finite float64 vector per sample."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.ops import in_float64

Pooling = Literal["mean", "flatten"]


def as_vectors(features: Tensor, *, pooling: Pooling = "mean", at_least: int = 2) -> Tensor:
    """Return one float64 vector per sample, detached from the graph; features of an Apple GPU are moved to the CPU.

    Args:
        features: ``(n, dim)``, or maps ``(n, channels, height, width)``.
        pooling: how maps become vectors: ``mean`` over positions gives one number per channel, ``flatten`` one number
            per channel and position.
        at_least: smallest n that is accepted.

    Raises:
        CmkdError: if the shape is unsupported, there are fewer samples, or features are NaN or infinite.

    Example:
        >>> as_vectors(torch.ones(2, 3, 4, 4)).shape, as_vectors(torch.ones(2, 3, 4, 4), pooling="flatten").shape
        (torch.Size([2, 3]), torch.Size([2, 48]))
    """
    if features.dim() not in (2, 4) or pooling not in ("mean", "flatten"):
        raise CmkdError(
            f"expected features (n, dim) or maps (n, channels, height, width) and pooling mean or flatten, "
            f"got {tuple(features.shape)} and {pooling}"
        )
    x = in_float64(features.detach())
    if x.dim() == 4:
        x = x.mean((2, 3)) if pooling == "mean" else x.flatten(1)
    if x.shape[0] < at_least or x.shape[1] == 0:
        raise CmkdError(f"expected at least {at_least} samples of at least one dimension, got {tuple(x.shape)}")
    if not x.isfinite().all():
        bad = int((~x.isfinite()).any(1).sum())
        raise CmkdError(f"{bad} of {x.shape[0]} samples hold NaN or infinity: check the model that made them")
    return x


def check_target(features: Tensor, target: Tensor, what: str = "class") -> None:
    """Check that `target` ``(n,)`` holds one integer for each row of `features`; `what` names it in messages.

    Raises:
        CmkdError: if it does not.
    """
    if target.shape != features.shape[:1] or target.is_floating_point():
        raise CmkdError(
            f"expected one integer {what} per sample, got {tuple(target.shape)} of {target.dtype} "
            f"for {features.shape[0]} samples"
        )


def class_sums(features: Tensor, target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the sum of the vectors of each class ``(classes, dim)`` and the class sizes ``(classes,)``."""
    target = target.to(features.device).long()
    sums = features.new_zeros(classes, features.shape[1]).index_add_(0, target, features)
    return sums, torch.bincount(target, minlength=classes).to(features.dtype)
