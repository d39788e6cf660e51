"""What more than one test of training needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest

from cmkd.data import CardInfo, Pack, from_dataset
from cmkd.training.checkpointing import CheckpointCallback

Stopping = Callable[[int], AbstractContextManager[None]]


class Squares:
    """Pairs of bright squares and noisy ones on grids of their own; every seventh pair lacks the bright one."""

    def __len__(self) -> int:
        return 300

    def __getitem__(self, index: int) -> dict[str, object]:
        generator = np.random.default_rng(index)
        rich = generator.normal(index % 3, 0.2, (2, 8, 8)).astype(np.float32)
        poor = (rich[:1] + generator.normal(0, 1, (1, 8, 8))).astype(np.float32)
        split = ("train", "train", "validation", "test")[index // 3 % 4]
        item = {"poor": poor, "label": index % 3, "split": split, "id": f"pair-{index}"}
        return item if index % 7 == 3 else item | {"rich": rich}


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A pack of 150 training pairs, some of them without the rich modality."""
    info = CardInfo("squares", rich="rich", poor="poor", mirror=True)
    return from_dataset(Squares(), tmp_path_factory.mktemp("squares") / "pack", info=info)


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
