"""Tensor mathematics that several methods or metrics need, in float32 or wider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.errors import CmkdError

Arguments = ParamSpec("Arguments")
CONSTANT = 1e-6
"""Relative spread of values below which they are constant up to rounding."""


def in_float32(loss: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """Decorate a loss so that autocast does not compute its matrix products in half precision.

    Autocast casts float32 operands of a product too, so `at_least_float32` alone is not enough.
    """

    @wraps(loss)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        first = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor | Sequence))
        tensor = first if isinstance(first, Tensor) else first[0]
        with torch.autocast(tensor.device.type, enabled=False):
            return loss(*args, **kwargs)

    return run


def at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in float32, or unchanged if wider, so that losses are not computed in half precision."""
    return tuple(t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors)


def widest(device: torch.device) -> torch.dtype:
    """Return the widest floating-point type of a device: float64, or float32 on an Apple GPU.

    Example:
        >>> widest(torch.device("cpu")), widest(torch.device("mps"))
        (torch.float64, torch.float32)
    """
    return torch.float32 if device.type == "mps" else torch.float64


def in_float64(x: Tensor) -> Tensor:
    """Return a tensor in float64; a tensor of an Apple GPU, which has no float64, is moved to the CPU."""
    return (x if widest(x.device) == torch.float64 else x.cpu()).double()


def upload(drawn: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device, without waiting for pending work of a GPU."""
    if device.type != "cuda":
        return drawn.to(device)
    return drawn.pin_memory().to(device, non_blocking=True)


def check_pair(student: Tensor, teacher: Tensor, *, same_shape: bool = False) -> tuple[Tensor, Tensor]:
    """Check that two tensors hold the same batch, and return them in float32 or wider.

    Args:
        student: ``(batch, ...)``.
        teacher: ``(batch, ...)``.
        same_shape: whether all other dimensions must agree too.

    Raises:
        CmkdError: the batch sizes, or with `same_shape` the shapes, differ.
    """
    if student.shape[:1] != teacher.shape[:1]:
        raise CmkdError(
            f"expected student and teacher batches of one size, got {student.shape[0]} and {teacher.shape[0]}"
        )
    if same_shape and student.shape != teacher.shape:
        raise CmkdError(
            f"expected student and teacher of one shape, got {tuple(student.shape)} and {tuple(teacher.shape)}; "
            "project the student first"
        )
    ours, theirs = at_least_float32(student, teacher)
    return ours, theirs


def check_maps(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, same_shape: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """Check two lists of feature maps, shallow to deep, and return their pairs as `check_pair` does."""
    if len(student) != len(teacher) or not student:
        raise CmkdError(
            f"expected equal numbers of student and teacher maps, at least one, got {len(student)} and {len(teacher)}"
        )
    return [check_pair(*pair, same_shape=same_shape) for pair in zip(student, teacher, strict=True)]


def standardize(x: Tensor, *, dim: int = 0, eps: float = 1e-5, over: Tensor | None = None) -> Tensor:
    """Subtract the mean and divide by the standard deviation along `dim` (biased variance, `eps` inside the root).

    A constant column becomes zeros, with a finite gradient.

    Args:
        x: any shape.
        dim: dimension over which the statistics are computed.
        eps: constant added to the variance.
        over: tensor from which the statistics are computed, such as the samples of all processes; by default `x`.
    """
    mean = (x if over is None else over).mean(dim=dim, keepdim=True)
    centered = x - mean
    deviation = centered if over is None else over - mean
    return centered * (deviation.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


def off_diagonal(matrix: Tensor) -> Tensor:
    """Return the off-diagonal elements of a square matrix ``(n, n)`` as ``(n (n - 1),)``.

    Example:
        >>> off_diagonal(torch.arange(9.0).reshape(3, 3)).tolist()
        [1.0, 2.0, 3.0, 5.0, 6.0, 7.0]
    """
    n = matrix.shape[0]
    if matrix.shape != (n, n):
        raise CmkdError(f"expected a square matrix, got {tuple(matrix.shape)}")
    return matrix.flatten()[1:].view(n - 1, n + 1)[:, :-1].flatten() if n > 1 else matrix.flatten()[:0]


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:  # noqa: ANN401  # autograd's own untyped context
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """Return `x`, whose gradient is reversed and scaled (Ganin and Lempitsky 2015, arXiv 1409.7495).

    Example:
        >>> x = torch.ones(1, requires_grad=True)
        >>> reverse_gradient(3.0 * x, 0.5).backward()
        >>> float(x.grad)
        -1.5
    """
    reversed_x: Tensor = _Reverse.apply(x, strength)  # type: ignore[no-untyped-call]
    return reversed_x


def non_target(logits: Tensor, target: Tensor) -> Tensor:
    """Return the logits ``(batch, classes - 1)`` of all classes but the target, in order.

    Example:
        >>> non_target(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([1])).tolist()
        [[1.0, 3.0]]
    """
    # by position and not by a mask, because a mask makes the CPU wait for the GPU to count its true elements
    others = torch.arange(logits.shape[1] - 1, device=logits.device).expand(logits.shape[0], -1)
    return logits.gather(1, others + (others >= target[:, None]))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return squared Euclidean distances ``(n, m)`` between the rows of `x` ``(n, dim)`` and of `y` ``(m, dim)``."""
    squares = x.square().sum(1)[:, None] + y.square().sum(1)[None, :]
    return (squares - 2.0 * x @ y.T).clamp(min=0.0)


def resize_like(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps ``(batch, channels, height, width)`` to the spatial `size` by adaptive average pooling."""
    return x if tuple(x.shape[2:]) == tuple(size) else F.adaptive_avg_pool2d(x, (int(size[0]), int(size[1])))


def match_resolution(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Resize two maps to the smaller of their heights and of their widths by adaptive average pooling."""
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return resize_like(student, size), resize_like(teacher, size)
