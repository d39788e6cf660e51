"""The benchmark of default encoders: what it holds out, what it never reads, and that it resumes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fair_chance
from cmkd.data import Pack
from cmkd.errors import CmkdError
from data.tiny import tiny_pack, tiny_source


@pytest.fixture
def sites(tmp_path: Path) -> Pack:
    return tiny_pack("presto", tiny_source("presto", tmp_path / "source"), tmp_path / "pack")


def test_each_pair_is_held_out_once_with_its_whole_group_and_no_test_pair_is_read(sites: Pack) -> None:
    cuts = list(fair_chance.folds(sites, "sentinel2"))
    given = np.concatenate([sites.rows(split, labeled=True) for split in ("train", "validation")])
    assert len(cuts) == fair_chance.FOLDS
    assert sorted(np.concatenate([held for *_, held in cuts]).tolist()) == sorted(given.tolist())
    group = sites.index["group"].to_numpy()
    for parts in cuts:
        assert sorted(np.concatenate(parts).tolist()) == sorted(given.tolist())
        assert sum(len(set(group[part])) for part in parts) == len(set(group[given]))


def test_a_cut_standardizes_by_its_own_train_pairs_and_leaves_the_pack_as_it_was(sites: Pack) -> None:
    train, validation, _ = next(fair_chance.folds(sites, "sentinel2"))
    before = sites.index["split"].tolist()
    cut = fair_chance.recut(sites, "sentinel2", train, validation)
    np.testing.assert_array_equal(cut.rows("train"), train)
    np.testing.assert_array_equal(cut.rows("validation"), validation)
    expected = sites.array("sentinel2")[train].reshape(-1, 11).mean(0)
    np.testing.assert_allclose(cut.modality("sentinel2").mean, expected, rtol=1e-5)
    assert cut.modality("sentinel2").mean != sites.modality("sentinel2").mean
    assert sites.index["split"].tolist() == before


def test_too_few_groups_are_one_clear_line(sites: Pack) -> None:
    sites.index["group"] = np.where(np.arange(len(sites)) % 2, "one", "two")
    with pytest.raises(CmkdError, match="2 groups; 5 folds need as many"):
        next(fair_chance.folds(sites, "sentinel2"))


def test_a_figure_is_measured_once(sites: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "results" / "fair_chance.json"
    monkeypatch.setattr(fair_chance, "FOLDS", 2)
    arguments = [str(sites.path), "--modality", "sentinel2", "--epochs", "1", "--trees", "5", "--out", str(out)]
    fair_chance.main(arguments)
    (row,) = json.loads(out.read_text())["rows"].values()
    assert set(row["folds"]) == set(fair_chance.MODELS) and all(len(found) == 2 for found in row["folds"].values())
    assert f"| `{row['reference']}` | sentinel2 |" in out.with_suffix(".md").read_text()
    monkeypatch.setattr(fair_chance, "network", lambda *_, **__: pytest.fail("measured again"))
    fair_chance.main(arguments)


def test_a_packs_own_split_is_one_fold_without_an_interval(
    sites: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((train, validation, held),) = fair_chance.own_split(sites, "sentinel2")
    for rows, split in ((train, "train"), (validation, "validation"), (held, "test")):
        np.testing.assert_array_equal(rows, sites.rows(split, labeled=True))
    monkeypatch.setattr(fair_chance, "network", lambda *_, **__: 0.5)
    monkeypatch.setattr(fair_chance, "baseline", lambda *_, **__: 0.25)
    out = tmp_path / "fair.json"
    fair_chance.main([str(sites.path), "--modality", "sentinel2", "--own-split", "--out", str(out)])
    assert out.with_suffix(".md").read_text().splitlines()[-1].endswith("| 50.0 | 25.0 | 25.0 | +25.0 |")
