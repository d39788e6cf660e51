"""What more than one test needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from cmkd.data.pack.pack import Pack


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # the suite runs in several processes; more threads would only fight


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep prepared data sets away from the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CMKD_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def digits(cache: Path) -> Pack:
    """The digits data set, real and small."""
    from cmkd.datasets.open import open_data

    return open_data("digits")


@pytest.fixture
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs write no page: drawing takes more time than a short training."""
    monkeypatch.setattr("cmkd.experiment.runner.write_report", lambda folder: None)
