"""Checks that every named data set must pass; a new one needs a row in `data.tiny.TINY` and no line here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmkd import datasets
from cmkd.data import Pack
from cmkd.datasets import DATASETS, Listing
from cmkd.datasets.digits import Digits
from cmkd.errors import CmkdError
from cmkd.types import Modality
from data.tiny import TINY, tiny_pack

Made = Callable[[str], tuple[Path, Pack]]


def test_every_data_set_has_a_row() -> None:
    own = {path.stem for path in Path(datasets.__file__).parent.glob("*.py")}
    assert set(TINY) == own & set(DATASETS)
    assert all((TINY[name].write is None) == (not DATASETS[name].sources) for name in TINY)


@pytest.mark.filterwarnings("ignore:the .* split lacks")  # few simulated pairs do not cover all classes
@pytest.mark.parametrize("name", TINY)
def test_promises(name: str, made: Made, tmp_path: Path) -> None:
    kind, (source, pack) = DATASETS.find(name), made(name)
    pack.verify()
    card = pack.card
    assert (card.name, card.rich, card.poor) == (kind.name, kind.rich, kind.poor)
    assert card.license
    assert card.citation.startswith("@")
    assert card.split["method"]
    assert card.split["counts"] == {split: len(pack.rows(split)) for split in ("train", "validation", "test")}
    for split in ("train", "validation", "test"):
        assert len(pack.rows(split, modalities=[kind.rich, kind.poor], labeled=True)), split
    labels = pack.index["label"].to_numpy()
    train = set(labels[pack.rows("train")].tolist())
    assert set(labels[pack.rows("test", labeled=True)].tolist()) <= train
    groups = pack.index[pack.index["group"] != ""]
    assert groups.empty != bool(kind.group)
    assert groups.empty or groups.groupby("group")["split"].nunique().max() == 1
    check_statistics(pack)
    batch = pack.batch(pack.rows("train")[:3])
    assert all(value.any() for value in batch.inputs.values())
    again = tiny_pack(name, source if kind.sources else None, tmp_path / "again")
    assert again.card.sha256 == card.sha256
    assert again.card.modalities == card.modalities


def check_statistics(pack: Pack) -> None:
    """Compare the card's statistics with those of the train split over all values, in float64."""
    train = pack.rows("train")
    for name, modality in pack.modalities.items():
        assert np.isfinite([*modality.mean, *modality.std]).all()
        assert min(modality.std) > 0
        if modality.kind in ("image", "vector", "series"):
            rows = train[pack.index[f"has_{name}"].to_numpy()[train]]
            values = modality.masked(pack.array(name)[rows].astype(np.float64))
            axes = (0, 2, 3) if modality.kind == "image" else tuple(range(values.ndim - 1))
            np.testing.assert_allclose(modality.mean, values.mean(axes), rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(modality.std, values.std(axes), rtol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_missing_source_names_the_address(name: str, tmp_path: Path) -> None:
    kind = DATASETS.find(name)
    for source in (None, tmp_path / "nowhere") if kind.sources else ():
        with pytest.raises(CmkdError, match=r"https?://") as caught:
            kind().prepare(source, tmp_path / "pack")
        assert "\n" not in str(caught.value)


def test_finding_a_data_set_imports_no_other_and_no_optional_package() -> None:
    script = (
        "import sys; from cmkd.datasets import DATASETS; DATASETS.find('digits'); heavy = {'h5py', 'sklearn', 'PIL', "
        "'scipy', 'imagecodecs', 'embreex', 'tifffile', 'requests', 'lightning', 'cmkd.datasets.mnist'}; "
        "assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | {"PYTHONPATH": "src"})


def test_a_missing_package_is_one_line_that_names_the_extra(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    source, pack = made("so2sat")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(CmkdError, match=r"reading HDF5 files needs h5py.*: pip install 'cmkd\[hdf5\]'"):
        DATASETS.find("so2sat")().prepare(source, pack.path.parent / "another")


def test_fewer_values_than_pairs_make_no_pack(tmp_path: Path) -> None:
    class Short(Digits):
        def write(self, destination: Path, listing: Listing, modalities: Sequence[Modality], **said: Any) -> Pack:  # noqa: ANN401
            return super().write(destination, replace(listing, values=list(listing.values)[:-1]), modalities, **said)

    with pytest.raises(CmkdError, match="digits lists 1797 pairs, but has values for 0"):
        Short().prepare(None, tmp_path / "digits")
    assert not (tmp_path / "digits").exists()


def test_unknown_name() -> None:
    with pytest.raises(CmkdError, match="did you mean 'digits'"):
        DATASETS.find("digit")
