"""The digits: fixed split, and a poor view that is worse but not useless."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from cmkd.data import Pack
from cmkd.datasets.degradations import speckle
from cmkd.datasets.digits import LEVELS, Digits
from cmkd.errors import CmkdError


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Digits().prepare(None, tmp_path_factory.mktemp("digits") / "pack")


def accuracy(pack: Pack, modality: str) -> float:
    values = pack.array(modality).reshape(len(pack), -1) / LEVELS
    train, test = pack.rows("train"), pack.rows("test")
    labels = pack.index["label"].to_numpy()
    model = LogisticRegression(max_iter=300, C=0.3).fit(values[train], labels[train])
    return float(model.score(values[test], labels[test]))


def test_pack(pack: Pack) -> None:
    assert pack.card.split["counts"] == {"train": 1077, "validation": 360, "test": 360}
    assert (pack.card.rich, pack.card.poor, pack.card.co_registered) == (
        "optical",
        "degraded",
        (("optical", "degraded"),),
    )
    np.testing.assert_array_equal(pack.array("optical")[:, 0], load_digits().images)
    pack.verify()


def test_degraded_view_loses_20_to_30_points(pack: Pack) -> None:
    clean, poor = accuracy(pack, "optical"), accuracy(pack, "degraded")
    assert clean > 0.93
    assert 0.2 < clean - poor < 0.3  # measured: 0.96 and 0.72 to 0.74, depending on the classifier


def test_severity_orders_the_views(pack: Pack, tmp_path: Path) -> None:
    mild = Digits(severity=0.2).prepare(None, tmp_path / "mild")
    harsh = Digits(severity=0.9).prepare(None, tmp_path / "harsh")
    assert accuracy(mild, "degraded") > accuracy(pack, "degraded") + 0.1 > accuracy(harsh, "degraded") + 0.2
    assert mild.index.equals(harsh.index)


def test_is_reproducible(pack: Pack, tmp_path: Path) -> None:
    again, other = Digits().prepare(None, tmp_path / "a"), Digits(seed=1).prepare(None, tmp_path / "b")
    assert again.card.sha256 == pack.card.sha256
    assert other.card.sha256["degraded.bin"] != pack.card.sha256["degraded.bin"]
    assert other.card.sha256["optical.bin"] == pack.card.sha256["optical.bin"]


def test_speckle_has_the_stated_moments() -> None:
    flat = np.full((4000, 9, 9), 8.0)
    values = speckle(flat, severity=0.5, generator=np.random.default_rng(0), full_scale=LEVELS)[:, 4, 4]
    # 2 looks: variance mean²/2; noise of 0.15 * 0.5 * 16 = 1.2; standard errors are 0.09 and 1.3
    assert abs(values.mean() - 8.0) < 0.4
    assert abs(values.var() - (8.0**2 / 2 + 1.2**2)) < 5.0


@pytest.mark.parametrize("severity", [-0.1, 1.5])
def test_severity_is_checked(severity: float) -> None:
    with pytest.raises(CmkdError, match="outside 0 to 1"):
        Digits(severity=severity)


def test_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match="leave the source out"):
        Digits().prepare(tmp_path, tmp_path / "pack")
