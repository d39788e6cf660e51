"""Fixtures that several tests of training share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from cmkd.training.checkpointing import CheckpointCallback

Stopping = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Stopping:
    """Return a context in which a training stops after a number of saved states."""

    class Stopped(Exception):
        pass

    @contextmanager
    def after(count: int) -> Iterator[None]:
        saved, save = [0], CheckpointCallback._save

        def counting(self: CheckpointCallback, trainer: object) -> None:
            save(self, trainer)  # type: ignore[arg-type]
            saved[0] += 1
            if saved[0] == count:
                raise Stopped

        with monkeypatch.context() as patched, pytest.raises(Stopped):
            patched.setattr(CheckpointCallback, "_save", counting)
            yield

    return after
