"""Devices of the trainings, and number of processes of each training."""

from __future__ import annotations

from dataclasses import replace

import torch

from cmkd.config import TrainerConfig
from cmkd.errors import CmkdError
from cmkd.processes import launched, usable_cores

PROCESSES = 8
"""Number of processes per training that is always allowed on a CPU, even with fewer cores, as in tests."""


def on_cpu(trainer: TrainerConfig) -> bool:
    """Return whether trainings run on the CPU."""
    found = torch.cuda.is_available() or torch.backends.mps.is_available()
    return trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not found)


def check_accelerator(trainer: TrainerConfig) -> None:
    """Check that enough GPUs exist, before the data are prepared, and that a CPU run does not start too many processes.

    Raises:
        CmkdError: there are too few GPUs, or the number of processes on the CPU is too large.
    """
    if on_cpu(trainer) and trainer.devices > (most := max(PROCESSES, usable_cores())):
        raise CmkdError(f"--devices {trainer.devices} would start {trainer.devices} processes; use at most {most}")
    found = torch.cuda.device_count() or int(torch.backends.mps.is_available())
    if not on_cpu(trainer) and found < trainer.devices:
        raise CmkdError(
            f"--devices {trainer.devices} needs as many GPUs, but torch finds {found}; use fewer, or "
            "--trainer.accelerator cpu"
        )


def with_launcher(trainer: TrainerConfig) -> TrainerConfig:
    """Return the configuration with the numbers of devices and nodes of torchrun or srun, if one started this process.

    Raises:
        CmkdError: the configuration gives other numbers, or several nodes without a launcher (they would wait for each
            other).
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
