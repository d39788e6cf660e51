"""Predict many inputs in constant memory: threads read ahead, the student computes, and a table grows on disk."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.readers import SUFFIXES
from cmkd.deploy.inputs import STDIN, Item, find
from cmkd.deploy.student import Student
from cmkd.deploy.writers import check_format, table
from cmkd.errors import CmkdError
from cmkd.progress import shown


def predict(
    student: Student,
    inputs: Sequence[str],
    out: Path | None,
    *,
    top: int = 0,
    batch_size: int = 256,
    workers: int = 4,
) -> tuple[int, list[str]]:
    """Write a table of predictions for many inputs; inputs that cannot be read are left out.

    Args:
        student: the student, from `cmkd.load_student`.
        inputs: inputs as for `cmkd.deploy.inputs.find`.
        out: table to write: ``.csv``, ``.parquet`` or ``.jsonl``; None prints CSV.
        top: number of most probable classes to write instead of all probabilities; 0 writes all.
        batch_size: number of samples computed at a time.
        workers: number of threads that read.

    Returns:
        The number of predictions, and a line with input and reason for each input without a prediction.

    Raises:
        CmkdError: if no input names a sample, `out` is one of the files that are read, or an option is out of range.
    """
    check_format(out)
    if not 0 <= top <= len(student.classes):
        raise CmkdError(f"--top is {top}, but the student has {len(student.classes)} classes")
    if min(batch_size, workers) < 1:
        raise CmkdError(f"--batch_size is {batch_size} and --workers is {workers}; both must be at least 1")
    kept = _Kept(out)
    total, with_ids = _count(inputs, student, kept)
    done, failures = 0, list[str]()
    items = _read_ahead(student, find(inputs, student.modality, opened=kept.see), workers, 2 * batch_size)
    with shown("predicting", "inputs") as progress, closing(items), table(out) as write:
        write(_columns(student, [], np.zeros((0, len(student.classes))), top, with_ids))
        while batch := list(islice(items, batch_size)):
            failures += [values for _, values in batch if isinstance(values, str)]
            good = [(item, values) for item, values in batch if not isinstance(values, str)]
            if good:
                probabilities = student.probabilities(np.stack([values for _, values in good]))
                finite = np.isfinite(probabilities.min(axis=1))
                failures += [_not_finite(item) for (item, _), fine in zip(good, finite, strict=True) if not fine]
                named = [item for (item, _), fine in zip(good, finite, strict=True) if fine]
                write(_columns(student, named, probabilities[finite], top, with_ids))
            done += len(batch)
            progress(done, total)
        kept.check()
        if not done:
            raise CmkdError("no input: standard input lists no files")
    return done - len(failures), failures


class _Kept:
    """Refuses an output file that is also an input, even under another name."""

    def __init__(self, out: Path | None) -> None:
        self.out, self.read = out, False
        self.status = None if out is None or not out.exists() else out.stat()

    def see(self, path: Path) -> None:
        if self.status is not None and os.path.exists(path):
            self.read = self.read or os.path.samestat(path.stat(), self.status)

    def check(self) -> None:
        if self.read:
            raise CmkdError(f"--out {self.out} is also an input: choose another file")


def _count(inputs: Sequence[str], student: Student, kept: _Kept) -> tuple[int, bool]:
    """Return the number of inputs (0 if standard input lists them), and whether some have an id."""
    total, there, with_ids, reason = 0, False, False, ""
    for item in find([text for text in inputs if text != STDIN], student.modality, opened=kept.see):
        total, there, with_ids = total + 1, there or item.source is not None, with_ids or item.id is not None
        reason = reason or item.reason
    kept.check()
    if STDIN in inputs:
        return 0, with_ids
    if not there:
        nothing = f"no file of a supported type ({', '.join(SUFFIXES)}) in {', '.join(inputs[:3])}"
        raise CmkdError(f"no input: {reason or nothing}")
    return total, with_ids


def _read_ahead(
    student: Student, items: Iterable[Item], workers: int, ahead: int
) -> Generator[tuple[Item, NDArray[Any] | str]]:
    """Yield the items in order, each with its sample or the reason why there is none; at most `ahead` wait."""
    waiting: deque[tuple[Item, Future[NDArray[Any] | str]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append((item, pool.submit(_read, student, item)))
            if len(waiting) > ahead:
                item, future = waiting.popleft()
                yield item, future.result()
        while waiting:
            item, future = waiting.popleft()
            yield item, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(student: Student, item: Item) -> NDArray[Any] | str:
    source = item.source
    if source is None:
        return item.reason
    try:
        if isinstance(source, Path) and source.exists() and not source.is_file():  # reading a pipe might never end
            return f"{source} is {'a folder' if source.is_dir() else 'no regular file'}"
        return student.sample(source if isinstance(source, Path) else source(), reading=item.reading)
    except OSError as error:
        return f"{item.input} cannot be read ({error.strerror})"
    except MemoryError:
        return f"{item.input} is too large for the memory"
    except CmkdError as error:
        return str(error)


def _not_finite(item: Item) -> str:
    name = f"{item.input} ({item.id})" if item.id else item.input
    return f"{name}: the student's output is not finite; check the values of the input and their unit"


def _columns(
    student: Student, items: Sequence[Item], probabilities: NDArray[Any], top: int, with_ids: bool
) -> dict[str, list[Any]]:
    """Return the columns of `Student.columns`, optionally with ids, and with the `top` classes instead of all."""
    columns = student.columns([_printable(item.input) for item in items], probabilities)
    if top:
        columns = {name: column for name, column in columns.items() if not name.startswith("p_")}
        order = np.argsort(-probabilities, axis=1, kind="stable")
        for k in range(top):
            columns[f"class_{k + 1}"] = [student.classes[c] for c in order[:, k]]
            columns[f"probability_{k + 1}"] = np.take_along_axis(probabilities, order[:, k : k + 1], 1)[:, 0].tolist()
    return {"id": [_printable(item.id or "") for item in items], **columns} if with_ids else columns


def _printable(name: str) -> str:
    """Return a name that can be written as UTF-8, even if the file system's name has other bytes."""
    return name.encode("utf-8", "backslashreplace").decode()
