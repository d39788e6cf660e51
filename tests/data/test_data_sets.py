"""What every data set known by name promises; a new one is held to it without a line here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cmkd.data import Pack
from cmkd.datasets import DATASETS
from cmkd.errors import CmkdError


def prepared(name: str, folder: Path) -> Pack:
    kind = DATASETS.find(name)
    return kind(**kind.tiny).prepare(kind.make_tiny(folder / "source"), folder / "pack")


@pytest.mark.parametrize("name", DATASETS)
def test_promises(name: str, tmp_path: Path) -> None:
    kind, pack = DATASETS.find(name), prepared(name, tmp_path)
    pack.verify()
    card = pack.card
    assert (card.name, card.rich, card.poor) == (kind.name, kind.rich, kind.poor)
    assert card.license
    assert card.citation.startswith("@")
    assert card.split["method"]
    for split in ("train", "validation", "test"):
        assert len(pack.rows(split, modalities=[kind.rich, kind.poor], labeled=True)), split
    labels = pack.index["label"].to_numpy()
    train = set(labels[pack.rows("train")].tolist())
    assert set(labels[pack.rows("test", labeled=True)].tolist()) <= train
    groups = pack.index[pack.index["group"] != ""]
    assert groups.empty or groups.groupby("group")["split"].nunique().max() == 1
    for modality in pack.modalities.values():
        assert np.isfinite([*modality.mean, *modality.std]).all()
        assert min(modality.std) > 0
    batch = pack.batch(pack.rows("train")[:3])
    assert all(value.any() for value in batch.inputs.values())


@pytest.mark.parametrize("name", DATASETS)
def test_prepared_twice_is_the_same(name: str, tmp_path: Path) -> None:
    first, second = (prepared(name, tmp_path / part) for part in "ab")
    assert first.card.sha256 == second.card.sha256
    assert first.card.modalities == second.card.modalities


@pytest.mark.parametrize("name", [name for name, kind in DATASETS.items() if kind.sources])
def test_missing_source_names_the_address(name: str, tmp_path: Path) -> None:
    for source in (None, tmp_path / "nowhere"):
        with pytest.raises(CmkdError, match=r"https?://") as caught:
            DATASETS.find(name)().prepare(source, tmp_path / "pack")
        assert "\n" not in str(caught.value)


def test_unknown_name() -> None:
    with pytest.raises(CmkdError, match="did you mean 'digits'"):
        DATASETS.find("digit")
