"""Statistics of the global batch: a gather with gradient, and batch-norm over all processes on any device.

Both do nothing in a single process, so methods can always call them. The results equal those of a single process that
holds the whole batch; gathered samples are ordered by rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from cmkd.processes import launched_first


def world_size() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process, from 0 to `world_size` - 1."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def leads() -> bool:
    """Return whether this process is the first of those that train together, even before the process group exists."""
    return rank() == 0 and launched_first()


def anywhere(flag: bool, device: torch.device) -> bool:
    """Return whether a flag is set in any of the processes that train together; all of them must call this."""
    if world_size() == 1:
        return flag
    found = torch.tensor(int(flag), device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:  # noqa: ANN401  # autograd's own untyped context
        size = torch.tensor(local.shape[0], device=local.device)
        sizes = [torch.zeros_like(size) for _ in range(world_size())]
        dist.all_gather(sizes, size)
        counts = [int(s) for s in sizes]
        padded = local.new_zeros((max(counts), *local.shape[1:]))
        padded[: local.shape[0]] = local
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded.contiguous())
        ctx.start, ctx.length = sum(counts[: rank()]), local.shape[0]
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        (gradient,) = gradients
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.length]


def gather(local: Tensor) -> Tensor:
    """Concatenate the tensors of all processes along dimension 0, with gradient.

    If every process computes the same loss from the gathered tensor and gradients are averaged over processes (as DDP
    does), the result is the gradient of that loss in one process. Processes may hold different numbers of rows or none.

    Args:
        local: ``(rows, ...)``, with the same dtype and trailing shape in every process.

    Returns:
        ``(rows of all processes, ...)`` in the order of ranks; `local` itself in a single process.
    """
    if world_size() == 1:
        return local
    return _Gather.apply(local)  # type: ignore[no-untyped-call, no-any-return]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:  # noqa: ANN401
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def synchronize_batch_norm(module: nn.Module) -> nn.Module:
    """Let each batch-norm in `module` use the statistics of the global batch in training, and return `module`.

    Torch's ``SyncBatchNorm`` works only on GPUs, and replaces a subclass of batch-norm together with its own behavior.
    """
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.forward = partial(_forward, norm.forward)  # type: ignore[method-assign]
    return module


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch.compile cannot compile a differentiable all-reduce
def _forward(forward: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    with _GlobalBatchNorm():
        return forward(*inputs)


class _GlobalBatchNorm(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # the result of any torch function
        return (_batch_norm if func is F.batch_norm else func)(*args, **kwargs or {})


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize `input` ``(batch, channels, ...)`` as ``F.batch_norm`` does, over the samples of all processes."""
    if not training or world_size() == 1:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    values = input.to(torch.promote_types(input.dtype, torch.float32))
    axes = [0, *range(2, values.dim())]
    count = values.new_tensor([values.numel() / values.shape[1]])
    # two passes, mean first: the one-pass form loses all digits if the mean is large
    totals = _Sum.apply(torch.cat([values.sum(axes), count]))  # type: ignore[no-untyped-call]
    mean = totals[:-1] / totals[-1]
    shape = [1, -1] + [1] * (values.dim() - 2)
    centered = values - mean.view(shape)
    variance = _Sum.apply(centered.square().sum(axes)) / totals[-1]  # type: ignore[no-untyped-call]
    with torch.no_grad():
        unbiased = variance * (totals[-1] / (totals[-1] - 1).clamp(min=1))
        for running, value in ((running_mean, mean), (running_var, unbiased)):
            if running is not None:
                running.lerp_(value.to(running.dtype), momentum)
    output = centered * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        output = output * weight.view(shape)
    if bias is not None:
        output = output + bias.view(shape)
    result: Tensor = output.to(input.dtype)
    return result
