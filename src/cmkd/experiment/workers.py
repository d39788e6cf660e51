"""Train students in parallel processes.

The parent assigns the students and handles everything that concerns the whole run; each process trains one student
after another and reports through a pipe. If a process dies, only its current student fails.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait

import torch

from cmkd import progress
from cmkd.distributed import world_size
from cmkd.errors import CmkdError, DiedError
from cmkd.experiment.plan import PlannedStudent, ready
from cmkd.processes import end_with_parent, ignore_interrupts, starting
from cmkd.provenance import commit
from cmkd.training.fit import threads as using_threads
from cmkd.training.reporting import Report, Tell

Train = Callable[[PlannedStudent, Tell], None]
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Disk errors, which would also occur for every other student."""


def one_after_another(
    train: Train, students: Sequence[PlannedStudent], *, tell: Tell, ended: Callable[[PlannedStudent], None]
) -> list[CmkdError]:
    """Train students in this process; same arguments and result as the function that `processes` yields."""
    failures = []
    for student in students:
        try:
            train(student, tell)
        except Exception as error:
            if world_size() > 1:  # the other processes of this training would wait for this one
                raise
            failures.append(_failed(student, error))
        ended(student)
    return failures


def _failed(student: PlannedStudent, error: Exception) -> CmkdError:
    """Return the error of a student with its title; an error in its code, such as a method's, does not stop others.

    Raises:
        OSError: `error` itself, if it is a disk error, which stops every student.
    """
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        raise error
    if isinstance(error, CmkdError):
        return type(error)(f"{student.title}: {error}")
    traceback.print_exception(error)
    said = (str(error).splitlines() or [""])[0]
    printed = "its traceback was printed; of a suite, to the run.log of the run"
    # a note of several lines is the traceback from another process
    notes = [note for note in getattr(error, "__notes__", ()) if "\n" not in note]
    told = "; ".join([said, *notes])
    return CmkdError(f"{student.title}: {type(error).__name__}: {told} ({printed})")


def packed(train: Train) -> bytes:
    """Return the training function as bytes for other processes.

    Raises:
        CmkdError: the function contains something that cannot be sent to another process.
    """
    try:
        # not multiprocessing's own pickler, with which torch would share the memory of the weights of a user's module
        content = pickle.dumps(train)
    except Exception as error:  # `__reduce__` and `__getstate__` of a user's object may raise anything
        raise CmkdError(
            f"cannot send the run to other processes ({' '.join(str(error).split())}); define classes and functions at "
            "the top of a module, or use --jobs 1"
        ) from error
    if b"__main__" in content:
        raise CmkdError(
            "cannot send classes and functions that the script defines to other processes; move them to a module "
            "that it imports, or use jobs=1"
        )
    return content


@contextlib.contextmanager
def processes(content: bytes, jobs: int, threads: int | None) -> Iterator[Callable[..., list[CmkdError]]]:
    """Start processes, and yield a function that trains students in them; they are stopped however the block ends.

    Starting the processes takes seconds, during which the block can already do other work.

    Args:
        content: training function as bytes, from `packed`.
        jobs: number of processes.
        threads: number of CPU threads of each process; None for torch's own choice.
    """
    workers: list[_Worker] = []
    try:
        for _ in range(jobs):
            workers.append(_Worker(content, threads))
        yield partial(_train_all, workers)
    finally:
        for worker in workers:
            worker.process.kill()  # safe: files are written atomically, and training resumes from them
        for worker in workers:
            worker.process.join()


def _train_all(
    workers: Sequence[_Worker],
    students: Sequence[PlannedStudent],
    *,
    tell: Tell,
    ended: Callable[[PlannedStudent], None],
) -> list[CmkdError]:
    """Train students in several processes.

    Args:
        workers: the processes.
        students: the students, in the order in which they start.
        tell: callback for the progress of each training.
        ended: callback for each finished student, trained or not.

    Returns:
        An error for each student that could not be trained.

    Raises:
        OSError: a process could not write its files.
    """
    waiting, failures, alive = list(students), list[CmkdError](), {worker.connection: worker for worker in workers}
    while alive:
        for worker in alive.values():
            if worker.student is None and (student := ready(waiting, [w.student for w in alive.values()])):
                waiting.remove(student)
                worker.give(student)
        busy = [connection for connection, worker in alive.items() if worker.student]
        if not busy:
            break
        for connection in wait(busy):
            assert isinstance(connection, Connection)
            worker = alive[connection]
            try:
                message = connection.recv()
            except (EOFError, OSError):
                message = DiedError(worker.death())
                del alive[connection]
            if isinstance(message, Report):
                tell(message)
                continue
            student = worker.take()
            ended(student)
            if message is not None:
                failures.append(_failed(student, message))
    return failures + ([CmkdError(f"{len(waiting)} more were not started")] if waiting else [])


class _Worker:
    """A process and its current student, if any."""

    def __init__(self, content: bytes, threads: int | None) -> None:
        self.student: PlannedStudent | None = None
        context = multiprocessing.get_context("spawn")  # a fork would copy threads that hold locks, and CUDA
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, content, threads), daemon=True)
        with starting():
            self.process.start()
        theirs.close()  # so that the pipe ends with the process

    def give(self, student: PlannedStudent) -> None:
        """Send a student to the process for training."""
        self.student = student
        with contextlib.suppress(OSError):  # a dead process is noticed when its answer is read
            self.connection.send(self.student)

    def take(self) -> PlannedStudent:
        """Return the finished student, and mark the process as idle."""
        assert self.student is not None
        student, self.student = self.student, None
        return student

    def death(self) -> str:
        """Describe how the process ended."""
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its process ended with exit code {code}; the same command continues from the last checkpoint"
        name = signal.Signals(-code).name
        reason = ", most likely for lack of memory" if -code == signal.SIGKILL else ""
        return (
            f"its process was killed by {name}{reason}; the same command continues from the last checkpoint, and fewer "
            "trainings at a time need less memory (--jobs of cmkd run, --workers of cmkd bench)"
        )


def _work(connection: Connection, content: bytes, threads: int | None) -> None:
    """Train the students that arrive until the parent stops this process; answer each with None or an error."""
    end_with_parent()
    progress.leave_to_parent()
    ignore_interrupts()
    train: Train | None = None
    commit()  # cached now, while the source tree is that of the imported code
    with using_threads(threads):
        while True:
            student = connection.recv()
            try:
                train = train or pickle.loads(content)
                train(student, connection.send)
            except Exception as error:
                connection.send(_portable(error))
            else:
                connection.send(None)


def _portable(error: Exception) -> Exception:
    """Return an error in a form that can be sent to the parent, with its traceback as a note."""
    if isinstance(error, torch.OutOfMemoryError):
        return CmkdError("the GPU has too little memory for all students at once; use fewer --jobs, or smaller batches")
    note = "".join(traceback.format_exception(error))
    made: Exception = error
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its own constructor may raise anything
        made = RuntimeError(f"{type(error).__name__}: {error}")
    made.add_note(note)
    return made
