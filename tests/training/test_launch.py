"""Two real processes: what each receives, that their loss is that of one process, and how failures are reported."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessContext, start_processes

from cmkd import models
from cmkd.config import AugmentationConfig, OptimizerConfig
from cmkd.data import Pack
from cmkd.errors import CmkdError, DiedError, DivergedError
from cmkd.methods.combine import from_expression
from cmkd.training.job import TrainingJob
from cmkd.training.launch import launch
from cmkd.training.module import DistillationModule
from cmkd.training.objective import Objective
from cmkd.types import Batch, Modality

RICH, POOR = (Modality(name, "vector", (4,), "float32", (0.0,) * 4, (1.0,) * 4) for name in ("rich", "poor"))
SHARES = (range(0, 4), range(4, 8))


def objective() -> Objective:
    """Build an objective without batch statistics, which would need `synchronize_batch_norm`."""
    torch.manual_seed(0)
    teacher, student = (models.build("mlp(width=8)", modality, classes=3) for modality in (RICH, POOR))
    method = from_expression("kd+nkd", student.spec, teacher.spec)  # `nkd` reads labels
    return Objective(student, teacher=teacher, method=method, always_paired=False).eval()


def batch(complete: int = 5) -> Batch:
    """Return eight pairs, the first `complete` ones complete; the first share has three labels and the second one."""
    generator = torch.Generator().manual_seed(1)
    inputs = {name: torch.randn(8, 4, generator=generator) for name in ("rich", "poor")}
    present = {"rich": torch.arange(8) < complete, "poor": torch.ones(8, dtype=torch.bool)}
    return Batch(inputs, torch.tensor([0, 1, 2, -1, -1, 1, -1, -1]), torch.arange(8), present)


def gradients(made: Objective, given: Batch) -> dict[str, Tensor]:
    made.zero_grad()
    _, terms = made(given)
    torch.stack(list(terms.values())).sum().backward()
    found = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    return found | {"no_pairs": torch.tensor("no_pairs" in terms)}


def work(made: Objective, folder: Path) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo", rank=rank, world_size=2)
    one_empty = gradients(made, batch(complete=4).select(torch.tensor(SHARES[rank])))["no_pairs"]
    found = gradients(made, batch().select(torch.tensor(SHARES[rank]))) | {"no_pairs": one_empty}
    dist.barrier()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(rank)
    dist.barrier()
    own = torch.tensor(all(bool((p == rank).all()) for p in made.parameters()))
    torch.save(found | {"own": own}, folder / f"{rank}.pt")
    dist.barrier()
    if rank == 1:
        raise CmkdError("the second process gives up")


def die(*_: object) -> None:
    if os.environ["LOCAL_RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_no_bug() -> None:
    with pytest.raises(
        DiedError, match=r"one of 2 processes died \(process 1 terminated with signal SIGKILL\); the same"
    ):
        launch(die, objective(), devices=2)


def wait_for_ever(_: Objective, folder: Path) -> None:
    (folder / os.environ["LOCAL_RANK"]).touch()
    time.sleep(600)


def test_a_signal_ends_the_processes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[ProcessContext]()

    def kept(function: Callable[..., None], given: tuple[object, ...], nprocs: int, join: bool) -> ProcessContext:
        started.append(start_processes(function, given, nprocs=nprocs, join=join, start_method="spawn"))
        return started[0]

    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("cmkd.training.launch.spawn", kept)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        launch(wait_for_ever, objective(), tmp_path, devices=2)
    assert [process.exitcode for process in started[0].processes] == [-signal.SIGTERM] * 2


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("two")
    with pytest.raises(CmkdError, match=r"^the second process gives up$"):
        launch(work, objective(), folder, devices=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_the_loss_is_the_mean_over_the_pairs_of_all_processes_however_few_of_them_are_complete(
    found: list[dict[str, Tensor]],
) -> None:
    expected = gradients(objective(), batch())
    for name in expected.keys() - {"no_pairs"}:
        torch.testing.assert_close(torch.stack([f[name] for f in found]).mean(0), expected[name])


def test_no_process_uses_a_method_that_another_has_no_pairs_for(found: list[dict[str, Tensor]]) -> None:
    assert all(f["no_pairs"] for f in found) and not gradients(objective(), batch(complete=4))["no_pairs"]


def test_each_process_has_weights_of_its_own(found: list[dict[str, Tensor]]) -> None:
    assert all(f["own"] for f in found)


def settle(module: DistillationModule, folder: Path) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo", rank=rank, world_size=2)
    spoiled = torch.tensor(float("nan"))
    for number, check in enumerate((module._settle, lambda: module._check_finite(float(spoiled) if rank else 1.0))):
        module._pending = [{"loss": torch.tensor(1.0) if rank else spoiled}]
        try:
            check()
        except DivergedError:
            (folder / f"{number}-{rank}").touch()


def test_what_diverges_in_one_process_stops_all_of_them(squares: Pack, tmp_path: Path) -> None:
    student = models.build("thin_resnet(width=4,stages=2)", squares.modality("poor"), classes=3)
    job = TrainingJob(tmp_path, squares, student, "thin_resnet(width=4,stages=2)", 1, 0)
    launch(settle, DistillationModule(job, OptimizerConfig(), AugmentationConfig(), batch_size=32), tmp_path, devices=2)
    assert {path.name for path in tmp_path.iterdir()} == {"0-0", "0-1", "1-0", "1-1"}


def send(module: DistillationModule, folder: Path) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo", rank=rank, world_size=2)
    memories = [buffer for name, buffer in module.named_buffers() if name.endswith("_memory")]
    for memory in memories:
        memory.fill_(rank)
    sent = {id(buffer) for buffer in nn.parallel.DistributedDataParallel(module).modules_buffers}
    in_steps = [id(memory) in sent for memory in memories]
    module.on_fit_start()
    torch.save((in_steps, [float(memory.abs().max()) for memory in memories], len(sent)), folder / f"{rank}.pt")


def test_a_memory_of_all_pairs_is_sent_once_and_not_in_every_step(squares: Pack, tmp_path: Path) -> None:
    teacher, student = (
        models.build("thin_resnet(width=4,stages=2)", squares.modality(name), classes=3) for name in ("rich", "poor")
    )
    method = from_expression("crd(negatives=8)+0.5*crd(negatives=8)", student.spec, teacher.spec)
    job = TrainingJob(tmp_path, squares, student, "thin_resnet(width=4,stages=2)", 1, 0, teacher, method)
    launch(send, DistillationModule(job, OptimizerConfig(), AugmentationConfig(), batch_size=32), tmp_path, devices=2)
    for rank in range(2):
        in_steps, largest, others = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert in_steps == [False] * 4 and largest == [0.0] * 4 and others > 0


def test_one_device_and_a_process_of_a_launcher_train_here(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    launch(lambda *given: calls.append(given), nn.Identity(), 1, devices=1)
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    launch(lambda *given: calls.append(given), nn.Identity(), 2, devices=2)
    assert len(calls) == 2


def test_what_cannot_be_pickled_is_refused_before_a_process_starts() -> None:
    class Local:
        pass

    with pytest.raises(CmkdError, match=r"cannot send Local to 2 processes \(.*\); define its classes"):
        launch(work, nn.Identity(), Local(), devices=2)
