"""Data cards have correct counts, and state weaknesses of the data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cmkd.cli import data as command
from cmkd.data import CardInfo, Modality, Pack, PackWriter
from cmkd.data.summary import leaked, markdown, summarize
from cmkd.datasets.mnist import Mnist
from data.tiny import tiny_source

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Write nine pairs: six train (4 of class a, 2 of b), one validation, two test (one sample is also in train)."""
    values = np.arange(18, dtype=np.float32).reshape(9, 2)
    values[8] = values[1]
    splits = ["train"] * 6 + ["validation"] + ["test"] * 2
    modalities = [Modality("x", "vector", (2,), "float32"), Modality("y", "vector", (2,), "float32")]
    with PackWriter(
        tmp_path / "pack",
        CardInfo("toy", rich="x", poor="y"),
        classes=["a", "b"],
        modalities=modalities,
        notes="made up.",
    ) as writer:
        groups = ["g", "g", "h", "", "", "", "i", "j", "j"]
        ids = [str(row) for row in range(9)]
        writer.add(ids, [0, 0, 0, 0, 1, 1, 0, 0, 1], splits, groups, {"x": values, "y": values[::-1].copy()})
    return Pack.open(tmp_path / "pack")


def test_counts(pack: Pack) -> None:
    summary = summarize(pack)
    assert summary.pairs == {"train": 6, "validation": 1, "test": 2}
    assert summary.counts == {"train": (4, 2), "validation": (1, 0), "test": (1, 1)}
    assert summary.groups == {"train": 2, "validation": 1, "test": 1}
    assert (summary.grouped, summary.crossing, summary.imbalance, summary.majority) == (6, 0, 2.0, 0.5)
    assert leaked(pack, "x") == 1


def test_markdown(pack: Pack) -> None:
    text = markdown(pack, ["9 points"])
    for line in (
        "| a | 4 | 1 | 1 |",
        "- **Balance**: the most frequent train class has 2 times the pairs of the rarest; always answering 'a' gives "
        "50.0 % on test; validation has no pair of b.",
        "- **Groups**: 2 in train, 1 in validation, 1 in test (6 of 9 pairs are in one); 0 in two splits; "
        "in later versions a group keeps its split, and a new one without a split gets one by name and seed alone.",
        "- **Exact duplicates in another split**: x 1, y 1 (of 3 pairs of validation and test).",
        "- **Gap**: 9 points.",
        "- **Known problems**: nothing noted.",
        "- **Notes**: made up.",
    ):
        assert line in text.splitlines()
    assert "- **Gap**: not measured." in markdown(pack)
    assert text.startswith("## toy\n")


def test_a_card_says_what_was_cut_and_left_out(tmp_path: Path) -> None:
    source = tiny_source("mnist", tmp_path / "source")
    text = markdown(
        Mnist(train_pairs=40, check=False).prepare(source, tmp_path / "pack"), opened="mnist(train_pairs=40):FOLDER"
    )
    assert text.startswith("## mnist(train_pairs=40)\n")
    assert "- **Open**: `--data 'mnist(train_pairs=40):FOLDER'`, where FOLDER holds the published files." in text
    assert "- **Balance**: as many train pairs of each class; always answering '0' gives 10.0 % on test." in text
    assert "; of these 40 for train and a quarter as many for validation, by class; 250 published images were" in text
    assert "left out as duplicates of an image in test or validation: 0 of train, 0 of validation." in text


def test_a_card_tells_what_its_class_tells(capsys: pytest.CaptureFixture[str]) -> None:
    command.card("digits")
    text = capsys.readouterr().out
    assert text.startswith("## digits\n")
    assert "Args:" not in text
    assert "a writer may be in two splits" in " ".join(text.split())


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("vector", (5,)),
        ("image", (2, 8, 8)),
        ("image", (3, 64, 48)),
        ("series", (3, 4)),
        ("series", (8000, 1)),
        ("points", (9, 3)),
        ("point_series", (4, 9, 3)),
    ],
)
def test_baseline_features_of_every_kind(kind: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    from simple_baselines import features  # type: ignore[import-not-found]

    values = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    modality = Modality("x", kind, shape, "float32")  # type: ignore[arg-type]
    found = features(values, modality)
    assert found.shape[0] == 6
    assert found.shape[1] <= 4000
    assert np.isfinite(found).all()
    if "point" in kind:  # order and padding do not matter, and a set may have no points
        values[0, ..., 5:, :] = 0
        values[1] = 0
        again = values[..., ::-1, :]
        np.testing.assert_allclose(features(values, modality), features(again, modality), atol=1e-5)
        assert np.isfinite(features(values, modality)).all()
