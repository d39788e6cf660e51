"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from cmkd.data.pack.pack import Pack

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # the suite runs in several processes; more threads would only compete


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with SIGINT ignored


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Use a temporary cache of prepared data sets instead of the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CMKD_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def digits(cache: Path) -> Pack:
    """The digits data set, real and small."""
    from cmkd.datasets.open import open_data

    return open_data("digits")


class Squares:
    """Pairs of bright and noisy squares that are not co-registered; every seventh pair lacks the bright image."""

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
    from cmkd.data import CardInfo, from_dataset

    info = CardInfo("squares", rich="rich", poor="poor", mirror=True)
    return from_dataset(Squares(), tmp_path_factory.mktemp("squares") / "pack", info=info)


@pytest.fixture
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep runs from writing a page, which takes longer than a short training."""
    monkeypatch.setattr("cmkd.experiment.runner.write_report", lambda folder: None)


@pytest.fixture(scope="module")  # playwright keeps an event loop running, which other modules must not see
def browser() -> Iterator[Browser]:
    """Chromium; without it, tests that need it are skipped, except in CI, where they fail."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("a page is looked at in a browser: install chromium, and playwright of the extra 'dev'")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
