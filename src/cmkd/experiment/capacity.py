"""Number of students that train at the same time, and number of CPU threads of each.

With one thread, a training gives bit-identical results on any number of cores, and one process per core is the fastest
way to train several small models. So small models train with one thread unless another number is given, even if only
one of them trains. Large models train one at a time on all cores unless `RunConfig.jobs` is set.
"""

from __future__ import annotations

from cmkd.errors import CmkdError
from cmkd.experiment.devices import on_cpu
from cmkd.experiment.resolve import ResolvedRun
from cmkd.processes import free_memory, usable_cores
from cmkd.training.schedule import epoch_steps

SMALL_OPERATIONS = 100_000_000
"""Multiply-adds per pair up to which a model counts as small. The encoders of cmkd on images of up to 128 pixels per
side are small; a ResNet-18 on images of 64 pixels is large."""
SHORT_STEPS = 1000
"""Total steps of all students below which they train in this process: starting another process, which imports torch and
Lightning, takes about as long as 500 steps of a small model."""
PROCESS_BYTES = 2**30
"""Smallest memory in bytes assumed for each further process."""


def threads(run: ResolvedRun, jobs: int) -> int | None:
    """Return the number of CPU threads of each training; None for torch's own choice."""
    config = run.config
    if config.trainer.threads is not None:
        return config.trainer.threads
    if config.trainer.devices > 1:  # a training on several devices sets its own threads
        return None
    if on_cpu(config.trainer) and run.operations <= SMALL_OPERATIONS:
        return 1
    return max(1, usable_cores() // jobs) if jobs > 1 else None


def jobs(run: ResolvedRun, students: int, *, callbacks: bool = False) -> int:
    """Return the number of students to train at the same time.

    Args:
        run: the resolved run.
        students: number of students to train.
        callbacks: whether there are extra callbacks; the state of their copies in other processes would be lost.

    Raises:
        CmkdError: `jobs` is set above 1, but each training already has several processes.
    """
    config = run.config
    several = config.trainer.devices * config.trainer.num_nodes > 1
    if config.jobs is not None:
        if config.jobs > 1 and several:
            raise CmkdError(f"--jobs {config.jobs} needs one process per training; use one device, or --jobs 1")
        return max(1, min(config.jobs, students))
    count = threads(run, 1)
    if several or callbacks or not on_cpu(config.trainer) or count is None or students * _steps(run) < SHORT_STEPS:
        return 1
    memory = free_memory()
    fitting = students if memory is None else memory // max(PROCESS_BYTES, 2 * _own_memory())
    return max(1, min(students, usable_cores() // count, fitting))


def _steps(run: ResolvedRun) -> int:
    """Return the largest number of steps of a student's training."""
    return int(run.config.epochs or 1) * epoch_steps(run.pairs("student"), int(run.config.trainer.batch_size or 1))


def _own_memory() -> int:
    """Return the private memory of this process in bytes, without mapped files such as a pack; 0 if unknown."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["RssAnon"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0
