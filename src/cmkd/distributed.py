"""Statistics of the global batch: a gather with gradient, and batch-norm over all processes on any device.

Both do nothing in a single process, so methods can always call them. The numbers agree with those of one process that
holds the whole batch; gathered samples are ordered by rank.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def world_size() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, below `world_size`."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def leads() -> bool:
    """Return whether this process is the first of those that train together, also before they form a group."""
    return rank() == 0 and int(os.environ.get("RANK", "0")) == 0


def launched() -> tuple[int, int] | None:
    """Return the processes a node and the nodes that torchrun started this process among; None without torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return local, int(os.environ["WORLD_SIZE"]) // local


def anywhere(flag: bool, device: torch.device) -> bool:
    """Return whether a flag is set in any of the processes that train together; each of them has to ask."""
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


class GlobalBatchNorm(_BatchNorm):
    """Batch-norm over the global batch, also on the CPU (torch's ``SyncBatchNorm`` is only for GPUs).

    In one process, and in eval mode, it equals torch's batch-norm.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` ``(batch, channels, ...)`` per channel."""
        if world_size() == 1 or not self.training:
            local: Tensor = super().forward(input)
            return local
        values = input.float()
        axes = [0, *range(2, values.dim())]
        count = values.new_tensor([values.numel() / values.shape[1]])
        # two passes, mean first: the one-pass form loses all digits if the mean is large
        totals = _Sum.apply(torch.cat([values.sum(axes), count]))  # type: ignore[no-untyped-call]
        mean = totals[:-1] / totals[-1]
        shape = [1, -1] + [1] * (values.dim() - 2)
        centered = values - mean.view(shape)
        variance = _Sum.apply(centered.square().sum(axes)) / totals[-1]  # type: ignore[no-untyped-call]
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
                unbiased = variance * (totals[-1] / (totals[-1] - 1).clamp(min=1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)
        output = centered * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        result: Tensor = output.to(input.dtype)
        return result


def synchronize_batch_norm(module: nn.Module) -> nn.Module:
    """Return `module` with each batch-norm replaced by `GlobalBatchNorm`, which keeps its parameters and buffers."""
    if isinstance(module, _BatchNorm) and not isinstance(module, GlobalBatchNorm):
        made = GlobalBatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        made.weight, made.bias = module.weight, module.bias
        made.running_mean, made.running_var = module.running_mean, module.running_var
        made.num_batches_tracked = module.num_batches_tracked
        made.train(module.training)
        return made
    for name, child in module.named_children():
        replacement = synchronize_batch_norm(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module
