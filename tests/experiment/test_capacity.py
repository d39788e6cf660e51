"""Tests of how many students train at once, and with how many threads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from cmkd import CmkdError, RunConfig, models
from cmkd.data import Pack
from cmkd.experiment import capacity
from cmkd.experiment.resolve import ResolvedRun, resolve
from cmkd.inference import operations
from cmkd.processes import free_memory


@pytest.fixture(scope="module")
def run(digits: Pack, tmp_path_factory: pytest.TempPathFactory) -> ResolvedRun:
    model = "thin_resnet(width=4)"
    out = tmp_path_factory.mktemp("capacity") / "out"
    return resolve(RunConfig("digits", out, epochs=20, teacher=model, student=model, trainer={"accelerator": "cpu"}))


@pytest.fixture
def _sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "usable_cores", lambda: 16)
    monkeypatch.setattr(capacity, "free_memory", lambda: 64 * 2**30)


def changed(
    run: ResolvedRun, *, jobs: int | None = None, operations: int | None = None, **trainer: object
) -> ResolvedRun:
    settings = replace(run.config.trainer, **trainer)  # type: ignore[arg-type]
    count = run.operations if operations is None else operations
    return replace(run, config=replace(run.config, jobs=jobs, trainer=settings), operations=count)


LARGE = 10 * capacity.SMALL_OPERATIONS


@pytest.mark.usefixtures("_sixteen_cores")
def test_small_models_take_one_core_each_and_large_ones_all(run: ResolvedRun) -> None:
    assert 0 < run.operations < capacity.SMALL_OPERATIONS
    assert [capacity.jobs(run, students) for students in (0, 1, 9, 90)] == [1, 1, 9, 16]
    assert {capacity.threads(changed(run, jobs=jobs), jobs or 1) for jobs in (None, 1, 4)} == {1}
    large = changed(run, operations=LARGE)
    assert capacity.jobs(large, 9) == 1 and capacity.threads(large, 1) is None
    assert capacity.jobs(changed(large, jobs=4), 9) == 4 and capacity.threads(changed(large, jobs=4), 4) == 4


@pytest.mark.usefixtures("_sixteen_cores")
def test_threads_that_were_asked_for_leave_fewer_processes(run: ResolvedRun) -> None:
    for count in (run.operations, LARGE):
        asked = changed(run, operations=count, threads=3)
        assert capacity.threads(asked, 1) == capacity.threads(asked, 5) == 3
        assert capacity.jobs(asked, 9) == 5


@pytest.mark.usefixtures("_sixteen_cores")
def test_one_process_where_several_are_of_no_use(run: ResolvedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert capacity.jobs(changed(run, devices=2), 9) == capacity.jobs(changed(run, num_nodes=2), 9) == 1
    assert capacity.jobs(run, 9, callbacks=True) == 1
    assert capacity.jobs(replace(run, config=replace(run.config, epochs=1)), 9) == 1  # too short for a process
    monkeypatch.setattr(capacity, "free_memory", lambda: 3 * max(2**30, 2 * capacity._own_memory()) + 2**29)
    assert capacity.jobs(run, 9) == 3
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    gpu = changed(run, accelerator="auto")
    assert capacity.jobs(gpu, 9) == 1 and capacity.threads(gpu, 1) is None
    assert capacity.jobs(changed(gpu, jobs=4), 9) == 4 and capacity.threads(gpu, 4) == 4


@pytest.mark.usefixtures("_sixteen_cores")
def test_processes_of_a_launcher_start_no_others(run: ResolvedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NUM_TASKS": "4", "NUM_NODES": "1", "TASKS_PER_NODE": "4"}.items():
        monkeypatch.setenv(f"SLURM_STEP_{name}", value)
    run = replace(run, config=resolve(run.config).config)
    assert capacity.jobs(run, 9) == capacity.jobs(changed(run, jobs=1), 9) == 1
    with pytest.raises(CmkdError, match="--jobs 2 needs one process per training"):
        capacity.jobs(changed(run, jobs=2), 9)


def test_operations_are_multiply_adds(digits: Pack) -> None:
    layer = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Flatten(), nn.Linear(3 * 64, 10))
    model = models.build(layer, digits.modalities["optical"], classes=10)
    assert operations(model, digits) == 64 * 9 * 3 + 3 * 64 * 10


def test_free_memory_is_within_the_limit_of_a_container(tmp_path: Path) -> None:
    system, mebibyte = tmp_path / "meminfo", 2**20
    system.write_text("MemTotal: 9000 kB\nMemAvailable:   2048 kB\n")
    assert free_memory(tmp_path, system) == 2 * mebibyte
    (tmp_path / "memory.stat").write_text(f"anon {3 * mebibyte}\nfile 12345\n")
    for limit, free in (("max", 2 * mebibyte), (str(4 * mebibyte), mebibyte), (str(2 * mebibyte), 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert free_memory(tmp_path, system) == free
    assert free_memory(tmp_path, tmp_path / "absent") is None
