"""Gathering and batch-norm on two gloo processes equal those of one process."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cmkd.distributed import gather, synchronize_batch_norm


def loss(x: torch.Tensor) -> torch.Tensor:
    """Return a loss of the whole batch that is not a sum over samples."""
    return (x.T @ x / len(x)).square().sum() + x.mean(0).exp().sum()


class Doubled(nn.BatchNorm2d):
    """A batch-norm subclass that doubles its output, with a cumulative average, which ``F.batch_norm`` lacks."""

    def __init__(self, features: int) -> None:
        super().__init__(features, momentum=None)

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Checkpointed(nn.Sequential):
    """Layers that run again in the backward pass."""

    def forward(self, input: Tensor) -> Tensor:
        return checkpoint(super().forward, input, use_reentrant=False)


def network() -> nn.Module:
    from timm.layers import BatchNormAct2d  # after cmkd, which makes torchvision importable

    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(4), Doubled(4), nn.InstanceNorm2d(4), BatchNormAct2d(4, act_layer=nn.SiLU)]
    again = Checkpointed(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    return nn.Sequential(nn.Conv2d(2, 4, 3), *norms, again, nn.Flatten(), nn.Linear(16, 3)).double()


def worker(rank: int, folder: str, split: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    data = torch.load(f"{folder}/data.pt", weights_only=True)
    local = (data[:split], data[split:])[rank].clone().requires_grad_()
    total = loss(gather(local))
    total.backward()
    net = synchronize_batch_norm(network())
    images = torch.load(f"{folder}/images.pt", weights_only=True).tensor_split(2)[rank]
    net(images).square().sum().backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    for gradient in grads.values():
        dist.all_reduce(gradient)
    out = {"loss": total.detach(), "grad": local.grad, "grads": grads, "buffers": dict(net.named_buffers())}
    torch.save(out, f"{folder}/out{rank}.pt")
    dist.destroy_process_group()


def test_gather_and_batch_norm_equal_one_process(tmp_path: Path) -> None:
    torch.manual_seed(1)
    data, images = torch.randn(7, 3, dtype=torch.float64), torch.randn(6, 2, 4, 4, dtype=torch.float64) + 3
    torch.save(data, tmp_path / "data.pt")
    torch.save(images, tmp_path / "images.pt")
    mp.spawn(worker, (str(tmp_path), 5), nprocs=2)  # unequal shares: 5 and 2 rows
    first, second = (torch.load(tmp_path / f"out{i}.pt", weights_only=True) for i in range(2))
    whole = data.clone().requires_grad_()
    expected = loss(whole)
    expected.backward()
    torch.testing.assert_close(first["loss"], expected.detach(), rtol=1e-12, atol=0)
    # each process computes the loss of the whole batch, so the gradient is doubled; DDP's average halves it again
    torch.testing.assert_close(torch.cat([first["grad"], second["grad"]]), 2 * whole.grad, rtol=1e-10, atol=1e-12)
    net = network()
    net(images).square().sum().backward()
    torch.testing.assert_close(first["buffers"], dict(net.named_buffers()), rtol=1e-10, atol=1e-12)
    expected = {name: p.grad for name, p in net.named_parameters()}
    torch.testing.assert_close(first["grads"], expected, rtol=1e-9, atol=1e-10)


def test_one_process_is_untouched() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    assert gather(x) is x
    expected = nn.BatchNorm1d(3)(x)
    torch.testing.assert_close(synchronize_batch_norm(nn.BatchNorm1d(3))(x), expected, rtol=0, atol=0)
