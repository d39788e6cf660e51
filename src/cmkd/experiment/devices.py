"""What trainings run on, and how many processes share one."""

from __future__ import annotations

from dataclasses import replace

import torch

from cmkd.config import TrainerConfig
from cmkd.errors import CmkdError
from cmkd.processes import launched, usable_cores

PROCESSES = 8
"""Processes of one training that a CPU with fewer cores may be asked for, as tests do."""


def on_cpu(trainer: TrainerConfig) -> bool:
    """Return whether trainings run on the CPU."""
    found = torch.cuda.is_available() or torch.backends.mps.is_available()
    return trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not found)


def check_accelerator(trainer: TrainerConfig) -> None:
    """Refuse a GPU that is not there, which Lightning would once the data are prepared, and a flood of processes.

    Raises:
        CmkdError: there are too few GPUs, or more processes than the cores can bear.
    """
    if on_cpu(trainer) and trainer.devices > (most := max(PROCESSES, usable_cores())):
        raise CmkdError(f"--devices {trainer.devices} would start {trainer.devices} processes; use at most {most}")
    if trainer.accelerator != "gpu":
        return
    found = torch.cuda.device_count() or int(torch.backends.mps.is_available())
    if found < trainer.devices:
        raise CmkdError(
            f"--trainer.accelerator gpu with --devices {trainer.devices}: torch finds {found}; use fewer, or cpu"
        )


def with_launcher(trainer: TrainerConfig) -> TrainerConfig:
    """Return the configuration with the processes that a launcher has started.

    Raises:
        CmkdError: another number was asked for, or several nodes without a launcher, which would wait for each other.
    """
    found, given = launched(), (trainer.devices, trainer.num_nodes)
    if found is None and trainer.num_nodes > 1:
        raise CmkdError(
            f"--trainer.num_nodes {trainer.num_nodes} needs a launcher: use srun, or start on each node `torchrun "
            f"--nnodes {trainer.num_nodes} --nproc-per-node {trainer.devices} --rdzv-backend c10d --rdzv-endpoint "
            "HOST:29500 -m cmkd run ...`, HOST being one of them"
        )
    if found is None or found == given:
        return trainer
    if given != (1, 1):
        raise CmkdError(
            f"the launcher started {found[0]} processes on each of {found[1]} nodes, but devices is {given[0]} and "
            f"num_nodes {given[1]}; leave both out, or give the same numbers"
        )
    return replace(trainer, devices=found[0], num_nodes=found[1])
