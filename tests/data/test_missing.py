"""Missing samples: nodata and NaN are never treated as measurements, from the file to the network."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray

from cmkd.cli.data import main
from cmkd.data import CardInfo, Modality, Pack, PackWriter, append, build, from_dataset
from cmkd.data.manifest.gdal import ValueTags, measured
from cmkd.data.manifest.readers import inspect, read
from cmkd.data.manifest.reading import Reading
from cmkd.data.manifest.resize import fit
from cmkd.data.manifest.sample import load, sample
from cmkd.data.pack import train_values
from cmkd.data.pack.diff import diff
from cmkd.data.quality import check, open_source
from cmkd.data.summary import facts
from cmkd.datasets import open_data
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.rasters import raster, stacked
from cmkd.errors import CmkdError, CmkdWarning

GAP = np.s_[:, :3, :4]
"""Place of the invalid samples in files that have some."""


def scaled(scale: str, offset: str = "0") -> str:
    items = (f'<Item name="{role}" sample="0" role="{role}">{value}</Item>' for role, value in
             (("scale", scale), ("offset", offset)))  # fmt: skip
    return f"<GDALMetadata>{''.join(items)}</GDALMetadata>"


def write_tiff(path: Path, values: NDArray[Any], nodata: str = "", metadata: str = "") -> None:
    tags: list[tuple[int, str, int, str, bool]] = [(42113, "s", 0, nodata, True)] if nodata else []
    tags += [(42112, "s", 0, metadata, True)] if metadata else []
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="separate", metadata=None, extratags=tags)


def measurements(dtype: str = "float32", mean: float = -12.0) -> NDArray[Any]:
    found = np.random.default_rng(0).normal(mean, 3.0, (12, 2, 8, 8))
    return np.rint(found).astype(dtype) if np.dtype(dtype).kind in "iu" else found.astype(dtype)


def folder_of(folder: Path, values: NDArray[Any], nodata: str | list[str] = "") -> Path:
    """Write a folder of 12 pairs; every third radar image has a gap."""
    folder.mkdir(exist_ok=True)
    lines = ["id,label,split,radar,optical"]
    for k, image in enumerate(values):
        write_tiff(folder / f"r{k}.tif", image, nodata if isinstance(nodata, str) else nodata[k])
        np.save(folder / f"o{k}.npy", np.full((4, 4), k, np.uint8))
        split = ("train", "train", "train", "validation", "test", "test")[k // 2]
        lines.append(f"{k},{'ab'[k % 2]},{split},r{k}.tif,o{k}.npy")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def with_gaps(values: NDArray[Any], mark: float) -> NDArray[Any]:
    values = values.copy()
    for image in values[::3]:
        image[GAP] = mark
    return values


def statistics(values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[list[float], list[float]]:
    channels = [
        image[:, k][mask[:, k]] for image, mask in ((values[:6].astype(np.float64), valid[:6]),) for k in (0, 1)
    ]
    return [float(c.mean()) for c in channels], [float(c.std()) for c in channels]


@pytest.mark.parametrize(
    ("dtype", "mark", "tag"),
    [("float32", -9999.0, "-9999.000 "), ("float32", np.nan, "nan"), ("int16", -32768, "-32768"), ("uint8", 0, "0")],
)
def test_nodata_of_files_is_no_measurement(tmp_path: Path, dtype: str, mark: float, tag: str) -> None:
    clean = measurements(dtype, mean=100.0)
    valid = np.ones(clean.shape, bool)
    valid[::3][(np.s_[:], *GAP)] = False
    pack = build(folder_of(tmp_path / "f", with_gaps(clean, mark), nodata=tag), tmp_path / "pack")
    radar = pack.modality("radar")
    assert radar.nodata == ("nan" if dtype == "float32" else mark)
    mean, std = statistics(clean, valid)
    np.testing.assert_allclose(radar.mean, mean)
    np.testing.assert_allclose(radar.std, std)
    assert pack.card.invalid["radar"] == (4 * 24, 4) and "96 in 4 of 12 pairs" in facts(pack)["Invalid values"]
    assert pack.modality("optical").nodata is None
    inputs = pack.batch(np.arange(12)).inputs["radar"].numpy()
    center = np.rint(radar.mean) if dtype != "float32" else np.float32(radar.mean)
    np.testing.assert_array_equal(inputs, np.where(valid, clean, center[:, None, None]))
    assert np.array_equal(np.ma.getmaskarray(radar.masked(pack.array("radar"))), ~valid)
    assert "NaN" not in (pack.path / "card.json").read_text()
    assert (train_values(pack, "radar") > 80).all()  # the nodata value is not among them
    assert diff(pack, pack).same


def test_a_value_is_stated_on_the_command_line_or_beside_the_manifest(tmp_path: Path) -> None:
    clean = measurements()
    folder = folder_of(tmp_path / "f", with_gaps(clean, -9999.0))
    main(["build", str(folder), "--out", str(tmp_path / "a"), "--nodata", "radar=-9999", "--unit", "radar=dB"])
    stated = Pack.open(tmp_path / "a").modality("radar")
    assert (stated.unit, stated.nodata, stated.file_nodata) == ("dB", "nan", -9999.0) and -13 < stated.mean[0] < -11
    before = open_data(folder)
    assert before.modality("radar").mean[0] < -600
    (folder / "manifest.yaml").write_text("modalities: {radar: {nodata: -9999, unit: amplitude}}")
    after = open_data(folder)  # not the cached pack of the same files
    assert after.path != before.path and after.modality("radar").mean == stated.mean
    won = build(folder, tmp_path / "b", readings={"radar": Reading(unit="dB")}).modality("radar")
    assert (won.unit, won.mean) == ("dB", stated.mean)
    # single files for a student, and later deliveries, are read in the same way
    assert np.ma.count_masked(load(stated, folder / "r0.tif")) == 24
    more = folder_of(tmp_path / "more", with_gaps(clean, -9999.0))
    (more / "manifest.csv").write_text("id,label,radar,optical\nnew,a,r0.tif,o0.npy")
    assert append(tmp_path / "a", more).card.invalid["radar"] == (5 * 24, 5)
    for text, says in (
        ("modalities: {rader: {unit: dB}}", "did you mean 'radar'"),
        ("modalities: {radar: {nodta: 1}}", "did you mean 'modalities.radar.nodata'"),
        ("modalities: {radar: {nodata: many}}", "modalities.radar.nodata must be a number or 'none'"),
    ):
        (folder / "manifest.yaml").write_text(text)
        with pytest.raises(CmkdError, match=says):
            build(folder, tmp_path / "c")
    (folder / "manifest.yaml").rename(folder / "manifest.yml")
    with pytest.raises(CmkdError, match=r"manifest\.yml is not read: rename it to manifest\.yaml"):
        build(folder, tmp_path / "c")


def test_tags_can_be_ignored_and_mean_nothing_out_of_range(tmp_path: Path) -> None:
    values = with_gaps(measurements("uint8", 100.0), 0)
    folder = folder_of(tmp_path / "f", values, nodata="0")
    ignored = build(folder, tmp_path / "a", readings={"radar": Reading(nodata="none")})
    assert ignored.modality("radar").nodata is None and "radar" not in ignored.card.invalid
    assert build(folder_of(tmp_path / "g", values, nodata="-9999"), tmp_path / "b").modality("radar").nodata is None
    with pytest.raises(CmkdError, match="the files hold uint8, which cannot represent it"):
        build(folder, tmp_path / "c", readings={"radar": Reading(nodata=-9999)})


def test_integer_files_of_different_values_become_one_or_are_refused(tmp_path: Path) -> None:
    values, clean = measurements("uint8", 100.0), measurements("uint8", 100.0)
    for k in (0, 3):
        values[k][GAP] = 0 if k == 0 else 255
    tags = ["0" if k < 3 else "255" for k in range(12)]
    pack = build(folder_of(tmp_path / "f", values, nodata=tags), tmp_path / "a")
    assert pack.modality("radar").nodata == 0 and pack.card.invalid["radar"] == (48, 2)
    assert not pack.array("radar")[3][GAP].any() and np.array_equal(pack.array("radar")[4], clean[4])
    values[5, 0, 7, 7] = 0
    with pytest.raises(CmkdError, match=r"r5\.tif has valid values 0, .*--nodata radar=0"):
        build(folder_of(tmp_path / "f", values, nodata=tags), tmp_path / "b")


def test_floats_that_the_tags_of_other_files_call_nodata_are_refused(tmp_path: Path) -> None:
    values = with_gaps(measurements(), -9999.0)
    tags = ["-9999"] * 9 + [""] * 3
    with pytest.raises(
        CmkdError, match=r"r9\.tif has values -9999 that count as valid, though .*--nodata MODALITY=-9999"
    ):
        build(folder_of(tmp_path / "f", values, nodata=tags), tmp_path / "a")
    pack = build(tmp_path / "f", tmp_path / "a", readings={"radar": Reading(nodata=-9999)})
    assert pack.card.invalid["radar"] == (96, 4)
    clean = folder_of(tmp_path / "g", measurements(), nodata=tags)  # files without this value need no tag
    assert build(clean, tmp_path / "b").card.invalid["radar"] == (0, 0)


@pytest.mark.parametrize(("dtype", "told", "tag"), [("float32", -9999, "-32768"), ("int16", -9999, "-32768")])
def test_tags_of_a_delivery_are_not_passed_over(tmp_path: Path, dtype: str, told: float, tag: str) -> None:
    first = folder_of(tmp_path / "f", with_gaps(measurements(dtype), told))
    pack = build(first, tmp_path / "pack", readings={"radar": Reading(nodata=told)})
    second = folder_of(tmp_path / "g", with_gaps(measurements(dtype), float(tag)), nodata=tag)
    manifest = pd.read_csv(second / "manifest.csv").assign(id=[f"new{k}" for k in range(12)])
    manifest.to_csv(second / "manifest.csv", index=False)
    with pytest.raises(CmkdError, match=r"r0\.tif has values -32768 that count as valid, though .*in manifest\.yaml"):
        append(pack.path, second)
    (second / "manifest.yaml").write_text(f"modalities: {{radar: {{nodata: {tag}}}}}")
    assert append(pack.path, second).card.invalid["radar"] == (192, 8)


def test_nan_without_a_declaration_is_counted_and_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", with_gaps(measurements(), np.nan))
    with pytest.warns(CmkdWarning, match="4 of 12 samples of 'radar' hold NaN, which no tag or option declares"):
        pack = build(folder, tmp_path / "a")
    assert pack.card.invalid["radar"] == (96, 4)
    write_tiff(folder / "r2.tif", np.full((2, 8, 8), np.nan, np.float32))
    with pytest.raises(CmkdError, match=r"r2\.tif has no valid value.*in a manifest, by an empty cell"):
        build(folder, tmp_path / "b")
    write_tiff(folder / "r2.tif", np.full((2, 8, 8), np.inf, np.float32))
    with pytest.raises(CmkdError, match=r"r2\.tif holds infinite values"):
        build(folder, tmp_path / "b")


def test_scale_and_offset_are_applied_to_what_is_valid(tmp_path: Path) -> None:
    path, stored = tmp_path / "a.tif", np.array([[[100, 200], [7, 300]], [[1, 2], [3, 7]]], np.int16)
    write_tiff(path, stored, nodata="7", metadata=scaled("0.01", "-3"))
    assert inspect(path).dtype == "float32"
    found = read(path)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.ma.filled(found, -1), [[[-2, -1], [-1, 0]], [[1, 2], [3, -1]]], atol=1e-6)
    for text, says in (
        ("<!DOCTYPE x><GDALMetadata/>", "declarations"),
        ("<GDAL", "cannot be read"),
        (scaled("nan"), "no"),
    ):
        write_tiff(path, stored, metadata=text)
        with pytest.raises(CmkdError, match=says):
            read(path)


def test_a_tag_is_compared_as_rounded_text() -> None:
    lowest = np.array([-3.4028234663852886e38, 1.0], np.float32)
    assert np.ma.getmaskarray(measured(lowest, ValueTags(float("-3.40282346639e+38")))).tolist() == [True, False]
    assert not np.ma.isMaskedArray(measured(lowest, ValueTags(1e300)))
    for stated in (-9999, -9999.0):  # YAML may have integers
        whole = measured(np.array([1, -9999], np.int16), stated=stated)
        assert np.ma.getmaskarray(whole).tolist() == [False, True]


@pytest.mark.parametrize("size", [(4, 4), (16, 16), (5, 11)])
def test_resizing_never_blends_what_is_invalid(size: tuple[int, int]) -> None:
    """Slow reference: each pixel is the weighted mean of the valid pixels under its triangle filter."""
    image = np.random.default_rng(1).normal(size=(1, 8, 8))
    masked = np.ma.MaskedArray(image, np.zeros(image.shape, bool))
    masked[0, :3, 2:7] = np.ma.masked
    masked.data[masked.mask] = 1e9
    found = fit(masked, "image", size)
    weights = [fit(np.eye(8)[None], "image", (n, 8))[0] for n in size]  # row of weights for each new pixel
    for y, x in np.ndindex(*size):
        weight = np.outer(weights[0][y], weights[1][x]) * ~masked.mask[0]
        if weight.sum() < 0.5 - 1e-6:
            assert found[0, y, x] is np.ma.masked
        else:
            assert found[0, y, x] == pytest.approx((weight * np.where(masked.mask, 0, image)[0]).sum() / weight.sum())


def test_an_average_does_not_become_the_nodata_value() -> None:
    radar = Modality("radar", "image", (1, 1, 2), "uint8", (10.0,), (1.0,), nodata=10)
    assert sample(radar, np.array([[[9, 11, 9, 11]]], np.uint8)).tolist() == [[[11, 11]]]
    assert sample(radar, np.array([[[10, 10, 30, 30]]], np.uint8)).tolist() == [[[None, 30]]]


def test_series_and_map_style_data(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n,4\n5,6\n")
    track = Modality("track", "series", (4, 2), "float32", (3.0, 4.0), (1.0, 1.0))
    assert track.filled(load(track, tmp_path / "t.csv")).tolist() == [[1, 2], [3, 4], [5, 6], [3, 4]]

    class Mine(list[dict[str, Any]]):
        pass

    items = Mine({"x": np.ma.masked_equal(np.array([k, 7.0]), 0), "label": k % 2} for k in range(20))
    with pytest.warns(CmkdWarning, match="1 of 20 samples of 'x' hold NaN"):
        assert from_dataset(items, tmp_path / "pack").card.invalid["x"] == (1, 1)
    items[3]["x"] = np.ma.MaskedArray([1, 2], [True, False])
    for item in items:
        item["x"] = item["x"].astype(np.int16)
    with pytest.raises(CmkdError, match="'x' is a masked array of int16: return floats"):
        from_dataset(items, tmp_path / "again")


@pytest.mark.parametrize(("dtype", "nodata"), [("float32", None), ("int16", -9), ("int16", None)])
def test_padding_of_a_series_is_no_measurement(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    generator, lines = np.random.default_rng(0), ["id,label,split,level,optical"]
    for k in range(12):
        np.save(tmp_path / f"l{k}.npy", generator.normal(-60, 1, (10 if k % 2 else 4, 1)).astype(dtype))
        np.save(tmp_path / f"o{k}.npy", np.full(4, k, np.uint8))
        lines.append(f"{k},{'ab'[k % 2]},{('train', 'validation', 'test')[k // 2 % 3]},l{k}.npy,o{k}.npy")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    reading = Reading(kind="series", size=(10,), nodata=nodata)
    pack = build(tmp_path, tmp_path / "pack", readings={"level": reading})
    level, counted = pack.modality("level"), dtype == "int16" and nodata is None
    assert (level.mean[0] > -55) == counted
    assert pack.card.invalid.get("level") == (None if counted else (6 * 6, 6))
    expected = 0 if counted else np.asarray(level.mean).astype(dtype) if dtype == "float32" else np.rint(level.mean)
    trained = pack.batch(np.array([0])).inputs["level"][0].numpy()
    assert (trained[4:] == expected).all()
    # files and arrays for a student, and later deliveries, are read in the same way
    for used in (load(level, tmp_path / "l0.npy"), sample(level, np.load(tmp_path / "l0.npy"))):
        np.testing.assert_array_equal(level.filled(used), trained)
    (tmp_path / "manifest.csv").write_text("id,label,level,optical\nnew,a,l0.npy,o0.npy")
    np.testing.assert_array_equal(append(pack.path, tmp_path).array("level")[[0, 12]], pack.array("level")[[0, 0]])


def test_padding_in_use_is_no_measurement_where_no_series_of_training_was_short(tmp_path: Path) -> None:
    level = Modality("level", "series", (10, 1), "float32", (100.0,), (1.0,))  # without a mark of invalid samples
    np.save(tmp_path / "short.npy", np.full((4, 1), 99.0, np.float32))
    assert level.filled(load(level, tmp_path / "short.npy"))[:, 0].tolist() == [99.0] * 4 + [100.0] * 6


def test_a_version_says_what_it_holds_and_absent_rows_are_the_mean(tmp_path: Path) -> None:
    sensor = Modality("x", "vector", (2,), "float32", nodata="nan")
    count = Modality("n", "vector", (2,), "uint8", nodata=0)
    values, counts = np.array([[1, 2], [3, 4]], np.float32), np.array([[1, 0], [5, 5]], np.uint8)
    with PackWriter(tmp_path / "p", CardInfo("t"), classes=["a", "b"], modalities=[sensor, count]) as writer:
        writer.add(["0", "1"], [0, 1], ["train", "train"], None, {"x": values, "n": counts})
    first = Pack.open(tmp_path / "p")
    assert first.modality("x").nodata is None and first.card.invalid == {"x": (0, 0), "n": (1, 1)}
    with PackWriter.append(tmp_path / "p") as writer:
        writer.add(["2"], [0], ["train"], None, {"x": np.array([[np.nan, 5]], np.float32)})
    second = Pack.open(tmp_path / "p")
    assert second.modality("x").nodata == "nan" and second.modality("x").mean == (2.0, pytest.approx(11 / 3))
    inputs = second.batch(np.arange(3)).inputs
    assert inputs["x"][2].tolist() == [2.0, 5.0] and inputs["n"].tolist() == [[1, 5], [5, 5], [3, 5]]
    assert Pack.open(tmp_path / "p", 1).modality("x").nodata is None
    content = json.loads((tmp_path / "p" / "card.json").read_text())  # as an older release wrote it
    for record in content["versions"]:
        del record["invalid"]
    for entry in content["header"]["modalities"].values():
        for key in ("nodata", "file_nodata", "unit", "rate"):
            del entry[key]
    (tmp_path / "p" / "card.json").write_text(json.dumps(content))
    assert Pack.open(tmp_path / "p").modality("n").nodata is None


def test_check_reports_gaps_and_a_share_that_tells_the_class(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.normal(-12, 3, (40, 1, 24, 24)).astype(np.float32)
    images[::2, :, :8] = np.nan
    images[4, :, :20] = np.nan
    radar = Modality("radar", "image", (1, 24, 24), "float32", nodata="nan")
    with PackWriter(tmp_path / "p", CardInfo("t"), classes=["a", "b"], modalities=[radar]) as writer:
        writer.add([f"p{k}" for k in range(40)], [0, 1] * 20, ["train"] * 40, None, {"radar": images})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check(open_source(tmp_path / "p"))
    assert [(fault.id, fault.kind) for fault in report.faults] == [("p4", "missing")]
    notes = " ".join(report.notes)
    assert "radar: 20 of 40 samples have invalid values" in notes and "differs between classes" in notes
    assert "36 % of 'a' and 0 % of 'b'" in notes


def test_rasters_of_data_sets_are_masked_too(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", with_gaps(measurements(), -9999.0)[0], nodata="-9999")
    write_tiff(tmp_path / "b.tif", np.full((2, 8, 8), np.nan, np.float32))
    with Archive(tmp_path, address="nowhere") as archive:
        made = stacked([raster(archive, "a.tif", 2)], 4)
        assert np.isnan(made[:, 0, :2]).all() and np.isfinite(made[:, 2:]).all() and np.nanmin(made) > -40
        with pytest.raises(CmkdError, match=r"b\.tif .*has no valid value"):
            raster(archive, "b.tif", 2)
