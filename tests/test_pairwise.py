"""The blockwise Gaussian potential equals the form that holds every pair."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import cmkd
from cmkd.errors import CmkdError
from cmkd.ops import in_float64
from cmkd.pairwise import gaussian_discrepancy, log_mean_gaussian, unit_rows


def all_pairs(x: Tensor, t: float) -> Tensor:
    return F.pdist(x).square().mul(-t).logsumexp(0) - math.log(x.shape[0] * (x.shape[0] - 1) / 2)


class NoFloat64(TorchDispatchMode):
    """Mode that refuses float64 tensors, as Apple GPUs do."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = function(*args, **(kwargs or {}))
        for value in tree_flatten(result)[0]:
            assert not isinstance(value, Tensor) or value.dtype != torch.float64, function
        return result


def test_a_device_without_float64_sums_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 40, 6, generator=generator)

    def found() -> list[Tensor]:
        points = x.clone().requires_grad_()
        value = log_mean_gaussian(points, block_size=16) + gaussian_discrepancy(points, y, block_size=16)
        return [value.detach(), *torch.autograd.grad(value, points)]

    wanted = found()
    monkeypatch.setattr("cmkd.pairwise.widest", lambda device: torch.float32)
    with NoFloat64():
        alike = found()
    torch.testing.assert_close(alike, wanted)


def test_what_a_device_without_float64_holds_is_widened_on_the_cpu() -> None:
    apple = SimpleNamespace(device=torch.device("mps"), cpu=lambda: torch.ones(2), double=lambda: pytest.fail("there"))
    assert in_float64(apple).dtype == in_float64(torch.ones(2)).dtype == torch.float64  # type: ignore[arg-type]


def all_pairs_discrepancy(x: Tensor, y: Tensor, t: float) -> Tensor:
    ours, theirs = (F.pdist(z).square().mul(-t).exp() for z in (x, y))
    return (ours - theirs).square().sum() / theirs.square().sum()


def random(n: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(2, 40), dim=st.integers(1, 9), block=st.integers(1, 17), t=st.floats(0.05, 60.0), seed=st.integers(0)
)
def test_value_and_gradient_are_those_of_all_pairs(n: int, dim: int, block: int, t: float, seed: int) -> None:
    x = random(n, dim, seed % 2**31).requires_grad_()
    expected, actual = all_pairs(x.double(), t), log_mean_gaussian(x, t=t, block_size=block)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    (ours,), (theirs,) = torch.autograd.grad(actual, x), torch.autograd.grad(expected, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(2, 40), dim=st.integers(1, 9), block=st.integers(1, 17), t=st.floats(0.05, 2.0), seed=st.integers(0)
)
def test_discrepancy_is_that_of_all_pairs(n: int, dim: int, block: int, t: float, seed: int) -> None:
    x, y = random(n, dim, seed % 2**31).requires_grad_(), unit_rows(random(n, 4, seed % 2**31 + 1))
    expected, actual = all_pairs_discrepancy(x, y, t), gaussian_discrepancy(x, y, t=t, block_size=block)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)
    (ours,), (theirs,) = torch.autograd.grad(actual, x), torch.autograd.grad(expected, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), shift=st.floats(-5, 5))
def test_discrepancy_sees_distances_alone(seed: int, shift: float) -> None:
    x, y = random(12, 4, seed), unit_rows(random(12, 4, seed + 1))
    turn = torch.linalg.qr(random(4, 4, seed + 2)).Q
    torch.testing.assert_close(gaussian_discrepancy(x @ turn + shift, y), gaussian_discrepancy(x, y @ turn))
    assert gaussian_discrepancy(y @ turn + shift, y) < 1e-12  # another basis, the same distances
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(gaussian_discrepancy(x[order], y[order]), gaussian_discrepancy(x, y))


def test_gradcheck() -> None:
    x, y = random(9, 3).requires_grad_(), random(9, 2)
    assert torch.autograd.gradcheck(lambda z: gaussian_discrepancy(z, y, t=0.3, block_size=4), (x,))
    assert torch.autograd.gradcheck(lambda y: log_mean_gaussian(y, t=1.3, block_size=4), (x,))


def test_second_derivative_is_refused_not_wrong() -> None:
    x = random(4, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(log_mean_gaussian(x) ** 2, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("flipped", [False, True])
def test_the_shift_follows_a_close_pair_found_early_or_late(flipped: bool) -> None:
    # squared distances of order 10^4 underflow in float32; one near pair holds the whole sum
    far = 200.0 * torch.arange(40.0)[:, None] * torch.ones(1, 2)
    x = torch.cat([far, far[-1:] + 1.0])
    x = x.flip(0) if flipped else x
    value = log_mean_gaussian(x, t=2.0, block_size=8)
    torch.testing.assert_close(value, all_pairs(x.double(), 2.0).float(), rtol=1e-4, atol=1e-4)


def test_only_far_points_do_not_underflow() -> None:
    x = 100.0 * torch.arange(5.0)[:, None]
    torch.testing.assert_close(
        log_mean_gaussian(x, t=1.0), torch.tensor(-1e4 + torch.tensor(0.4).log().item()), rtol=1e-5, atol=0.0
    )


def test_float32_and_autocast() -> None:
    x = unit_rows(random(700, 16)).float()
    expected = all_pairs(x.double(), 2.0).float()
    torch.testing.assert_close(log_mean_gaussian(x), expected, rtol=1e-6, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(log_mean_gaussian(x), expected, rtol=1e-6, atol=1e-6)
    assert log_mean_gaussian(x.bfloat16()).dtype is torch.float32


@pytest.mark.parametrize("n", [0, 1])
def test_no_pair_is_zero(n: int) -> None:
    x = torch.ones(n, 3, requires_grad=True)
    value = log_mean_gaussian(x)
    value.backward()
    assert value.item() == 0.0 and x.grad is not None and torch.equal(x.grad, torch.zeros(n, 3))
    assert gaussian_discrepancy(x, x).item() == 0.0


def test_identical_points_and_nan() -> None:
    x = torch.ones(600, 4, requires_grad=True)
    value = log_mean_gaussian(x)
    value.backward()
    assert abs(value.item()) < 1e-6 and x.grad is not None and x.grad.abs().max() < 1e-6
    for row in (0, 599):
        broken = random(600, 4).float()
        broken[row, 1] = torch.nan
        assert log_mean_gaussian(broken).isnan()
        assert log_mean_gaussian(broken[:1] * torch.nan).isnan()
        assert gaussian_discrepancy(broken, x).isnan() and gaussian_discrepancy(x, broken).isnan()
    far = 100.0 * random(600, 4).float()
    collapsed = gaussian_discrepancy(x, far)
    (gradient,) = torch.autograd.grad(collapsed, x)
    assert collapsed.isfinite() and gradient.abs().max() < 1e-6  # the potentials of the reference underflow


def test_bad_arguments() -> None:
    with pytest.raises(CmkdError, match=r"\(n, dim\)"):
        log_mean_gaussian(torch.zeros(3))
    with pytest.raises(CmkdError, match="above 0"):
        log_mean_gaussian(torch.zeros(3, 2), t=0.0)
    with pytest.raises(CmkdError, match="equally many points"):
        gaussian_discrepancy(torch.zeros(3, 2), torch.zeros(4, 2))


@pytest.mark.parametrize(("value", "gradient"), [(0.0, 1.0), (1e-9, 1e3)])
def test_unit_rows_has_an_ordinary_gradient_at_zero_and_a_bounded_one_near_it(value: float, gradient: float) -> None:
    x = torch.full((1, 3), value, requires_grad=True)
    unit_rows(x, eps=1e-6).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((1, 3), gradient))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
def test_memory_is_that_of_the_points() -> None:
    # 65,536 points make 2 x 10^9 pairs: 8 GiB of float32 if they were held
    script = """
        import pathlib, torch
        from cmkd.pairwise import gaussian_discrepancy, log_mean_gaussian
        def peak():  # in KiB; getrusage would count the parent's memory before the fork too
            status = pathlib.Path("/proc/self/status").read_text()
            return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
        torch.manual_seed(0)
        x = torch.nn.functional.normalize(torch.randn(65536, 64)).requires_grad_()
        log_mean_gaussian(x[:2048]).backward()
        before = peak()
        log_mean_gaussian(x).backward()
        gaussian_discrepancy(x, x.detach().flip(0)).backward()
        assert x.grad.isfinite().all()
        print(peak() - before)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(cmkd.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500, env=environment)
    grown = int(done.stdout) * 1024
    assert 2**24 <= grown < 2**30  # less than the 16 MiB of the gradient would mean that nothing was measured
