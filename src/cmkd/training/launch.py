"""Run a training in this process, or in one process for each device of this machine."""

from __future__ import annotations

import os
import pickle
import re
import socket
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from cmkd import errors
from cmkd.errors import CmkdError, DiedError
from cmkd.processes import by_srun, end, end_with_parent, launched


def launch(train: Callable[..., None], module: nn.Module, *arguments: object, devices: int) -> None:
    """Call ``train(module, *arguments)`` in one process per device.

    A process that a launcher (torchrun, srun) started is already one of several, so it calls `train` itself. Lightning
    could also spawn the processes, but they would import Lightning before ``import cmkd`` makes torchvision importable.

    Raises:
        CmkdError: if something in `module` or `arguments` cannot be pickled, or a process raised a `CmkdError`.
        DiedError: if a process was killed.
    """
    if by_srun():
        os.environ |= _task()
    if devices == 1 or launched() is not None:
        train(module, *arguments)
        return
    for value in (module, *arguments):
        try:
            pickle.dumps(value)
        except Exception as error:  # whatever `__reduce__` and `__getstate__` of a user's object raise
            raise CmkdError(
                f"cannot send {type(value).__name__} to {devices} processes ({error}); define its classes and "
                "functions at the top of a module, or use one device"
            ) from error
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = spawn(_process, (port, train, module, arguments), nprocs=devices, join=False)
    assert context is not None
    try:
        while not context.join():
            pass
    except ProcessExitedException as error:
        raise DiedError(f"one of {devices} processes died ({error}); the same command continues") from error
    except ProcessRaisedException as error:
        marked = re.findall(r"^cmkd\.errors\.(CmkdError|DivergedError): (.*)$", str(error), re.MULTILINE)
        if not marked:
            raise
        kind, line = marked[-1]
        raise getattr(errors, kind)(line) from error
    finally:
        end(context.processes)  # otherwise they would train on after a signal to this process


def _task() -> dict[str, str]:
    """Return the address where the tasks of srun meet, unless the user sets it, and the number of this task."""
    port = 15000 + (100 * int(os.environ["SLURM_JOB_ID"]) + int(os.environ["SLURM_STEP_ID"])) % 10000
    address = SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"])
    number = {"NODE_RANK": os.environ["SLURM_NODEID"], "LOCAL_RANK": os.environ["SLURM_LOCALID"]}
    return {"MASTER_ADDR": address, "MASTER_PORT": str(port), **os.environ, **number}


def _process(index: int, port: int, train: Callable[..., None], module: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Train as one of the processes; Lightning reads the number of the process from the environment."""
    end_with_parent()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(index)}
    for tensor in (*module.parameters(), *module.buffers()):
        # torch passes tensors to spawned processes in shared memory: without a copy, every process would write to the
        # same tensors. A deep copy of the module would not do: a method's hooks on its student would stay with the
        # original
        tensor.data = tensor.data.clone()
    train(module, *arguments)
    dist.destroy_process_group()
