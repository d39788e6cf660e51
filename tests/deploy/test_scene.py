"""Maps of scenes: georeference, agreement with predictions of single tiles, missing values, and memory."""

from __future__ import annotations

import os
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cmkd.cli import main
from cmkd.deploy import scene as module
from cmkd.deploy.calibration import Calibration
from cmkd.deploy.scene import predict_scene
from cmkd.deploy.student import Student, load_student
from cmkd.errors import CmkdError
from cmkd.types import Modality
from deploy.conftest import make_student

rasterio = pytest.importorskip("rasterio")
ORIGIN = rasterio.Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 6_000_000.0)


def write(path: Path, values: NDArray[Any], **options: Any) -> Path:  # noqa: ANN401  # of rasterio
    profile = {"driver": "GTiff", "crs": "EPSG:32632", "transform": ORIGIN, "dtype": values.dtype.name}
    count, height, width = values.shape
    with rasterio.open(path, "w", count=count, height=height, width=width, **profile | options) as file:
        file.write(values)
    return path


def random_bytes(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def test_the_georeference_and_the_files(
    radar_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(tmp_path / "scene.tif", random_bytes(1, 40, 64)), tmp_path / "maps" / "map.tif"
    words = ["predict", str(radar_student), str(source), "--tile", "8", "--stride", "4", "--out", str(out)]
    assert main([*words, "--device", "cpu"]) == 0
    assert "160 of 160 pixels" in capsys.readouterr().out
    assert sorted(path.name for path in out.parent.iterdir()) == ["map.tif", "map_probabilities.tif"]
    with (
        rasterio.open(source) as scene,
        rasterio.open(out) as classes,
        rasterio.open(out.with_stem("map_probabilities")) as probabilities,
    ):
        for made in (classes, probabilities):
            assert made.crs == scene.crs and made.bounds == scene.bounds
            assert made.transform == rasterio.Affine(40.0, 0.0, 500_000.0, 0.0, -40.0, 6_000_000.0)
            assert made.shape == (10, 16) and made.profile["tiled"] and made.compression.name == "deflate"
            assert made.tags()["classes"] == '["-tug", "ferry", "tanker"]'
        assert classes.dtypes == ("uint8",) and classes.nodata == 255
        assert probabilities.descriptions == ("-tug", "ferry", "tanker") and np.isnan(probabilities.nodata)
        assert np.array_equal(classes.read(1), probabilities.read().argmax(axis=0))
        np.testing.assert_allclose(probabilities.read().sum(axis=0), 1, rtol=1e-5)


def test_each_pixel_is_the_prediction_of_its_tile(
    radar_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Includes resized tiles, a size that is no multiple of the stride, and a map with several rows of blocks."""
    monkeypatch.setattr(module, "BLOCK", 16)
    student, values = load_student(radar_student, device="cpu"), random_bytes(1, 61, 47)
    source = write(tmp_path / "scene.tif", values)
    for tile, stride in ((8, 3), (12, 3), (5, 6)):
        out = tmp_path / "map.tif"
        found = predict_scene(student, source, out, tile=tile, stride=stride, batch_size=50)
        with rasterio.open(found.probabilities) as file:
            made = file.read()
        assert made.shape == (3, -(-61 // stride), -(-47 // stride)) and found.predicted == made[0].size
        tiles = []
        for row in range(made.shape[1]):
            for column in range(made.shape[2]):
                top, left = (
                    min(max(place * stride + (stride - tile) // 2, 0), length - tile)
                    for place, length in ((row, 61), (column, 47))
                )
                tiles.append(student.sample(values[:, top : top + tile, left : left + tile]))
        expected = student.probabilities(np.stack(tiles))
        np.testing.assert_allclose(made.reshape(3, -1).T, expected, atol=1e-5)


def test_tiles_with_few_valid_values_have_no_prediction_and_others_are_filled(
    radar_student: Path, tmp_path: Path
) -> None:
    student, values = load_student(radar_student, device="cpu"), random_bytes(1, 32, 32) // 2 + 1
    values[0, 8:13, 16:24] = 0
    values[0, 8:12, 8:16] = 0  # exactly half of a tile
    found = predict_scene(student, write(tmp_path / "s.tif", values, nodata=0), tmp_path / "map.tif", tile=8, stride=8)
    with rasterio.open(tmp_path / "map.tif") as classes, rasterio.open(found.probabilities) as probabilities:
        missing = classes.read(1) == 255
        assert np.argwhere(missing).tolist() == [[1, 2]] and found.predicted == 15
        made = probabilities.read()
        assert np.array_equal(np.isnan(made), np.stack([missing] * 3))
    tile = np.ma.masked_equal(values[:, 8:16, 8:16], 0)
    np.testing.assert_allclose(made[:, 1, 1], student.probabilities(student.sample(tile)[None])[0], atol=1e-5)
    assert (student.sample(tile)[0, :4] == round(student.modality.mean[0])).all()
    write(tmp_path / "empty.tif", np.zeros((1, 32, 32), np.uint8), nodata=0)
    assert predict_scene(student, tmp_path / "empty.tif", tmp_path / "map.tif", tile=8, stride=8).predicted == 0


def test_what_manifest_yaml_states_holds_as_for_single_files(tmp_path: Path) -> None:
    modality = Modality("radar", "image", (1, 8, 8), "float32", (-12.0,), (3.0,), unit="dB")
    student = load_student(make_student(tmp_path, modality, ("a", "b"), "thin_resnet(width=4,stages=1)"), device="cpu")
    values = np.full((1, 8, 16), -12, np.float32)
    values[:, :, 8:] = 0
    plain, tagged = write(tmp_path / "plain.tif", values), write(tmp_path / "tagged.tif", values, nodata=0)

    def predicted(source: Path, said: str) -> int:
        (tmp_path / "manifest.yaml").write_text(f"modalities: {{radar: {{{said}}}}}")
        return predict_scene(student, source, tmp_path / "map.tif", tile=8, stride=8).predicted

    assert predicted(plain, "unit: dB") == 2 and predicted(plain, "nodata: 0") == 1
    assert predicted(tagged, "unit: dB") == 1 and predicted(tagged, "nodata: none") == 2
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(plain, "r+") as file:
        file.write_mask(np.repeat([[False, True]], 8, axis=1).repeat(8, axis=0))
    assert predicted(plain, "unit: dB") == predicted(plain, "nodata: none") == 1
    assert predicted(plain, "nodata: 0") == 0  # a stated value does not replace the mask
    for said in ("unit: linear power", "kind: series"):
        with pytest.raises(CmkdError, match=r"manifest\.yaml: .* of 'radar' is stated as"):
            predicted(plain, said)


def test_a_scene_without_a_georeference_is_mapped_without_a_warning(radar_student: Path, tmp_path: Path) -> None:
    student = load_student(radar_student, device="cpu")
    tifffile.imwrite(tmp_path / "scene.tif", random_bytes(8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = predict_scene(student, tmp_path / "scene.tif", tmp_path / "map.tif", tile=8, stride=8)
    assert found.pixels == 1


def test_a_fourth_band_is_no_transparency(tmp_path: Path) -> None:
    modality = Modality("optical", "image", (4, 8, 8), "uint8", (120.0,) * 4, (60.0,) * 4)
    student = load_student(make_student(tmp_path, modality, ("land", "water")), device="cpu")
    values = random_bytes(4, 16, 16)
    values[3, :, :8] = 0  # near infrared over water; GDAL reads the band as alpha
    found = predict_scene(student, write(tmp_path / "scene.tif", values), tmp_path / "map.tif", tile=8, stride=8)
    with rasterio.open(tmp_path / "scene.tif") as scene, rasterio.open(found.probabilities) as file:
        assert scene.colorinterp[3].name == "alpha"
        made = file.read()
    tiles = [values[:, row : row + 8, column : column + 8] for row in (0, 8) for column in (0, 8)]
    np.testing.assert_allclose(made.reshape(2, -1).T, student.probabilities(np.stack(tiles)), atol=1e-5)


def test_not_finite_values_are_missing_and_doubles_are_read(tmp_path: Path) -> None:
    modality = Modality("sar", "image", (2, 8, 8), "float32", (0.0, 0.0), (1.0, 1.0))
    student = load_student(make_student(tmp_path, modality, ("a", "b"), "thin_resnet(width=4,stages=1)"), device="cpu")
    values = np.random.default_rng(0).normal(size=(2, 16, 24))
    values[:, :5, :8] = np.nan
    predict_scene(student, write(tmp_path / "s.tif", values), tmp_path / "map.tif", tile=8, stride=8)
    with rasterio.open(tmp_path / "map.tif") as classes:
        assert (classes.read(1) == 255).tolist() == [[True, False, False], [False, False, False]]


def test_memory_does_not_grow_with_the_height(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRIP_BYTES", 2**20)
    modality = Modality("radar", "image", (1, 8, 8), "uint8", (120.0,), (60.0,))
    student = Student(
        modality, ("a", "b"), Calibration(), {}, lambda x: x.mean((1, 2, 3))[:, None] * np.array([1, -1], np.float32)
    )
    peaks = []
    for height in (4096, 32_768):
        source = write(tmp_path / "scene.tif", np.ones((1, height, 512), np.uint8))
        tracemalloc.start()
        found = predict_scene(student, source, tmp_path / "map.tif", tile=512, stride=512)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.predicted == height // 512
    assert peaks[1] < 1.2 * peaks[0]


def test_ground_control_points_are_kept(radar_student: Path, tmp_path: Path) -> None:
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(r, c, 7 + c / 100, 50 - r / 100) for r, c in ((0, 0), (0, 32), (32, 0), (32, 32))]
    values = random_bytes(1, 32, 32)
    source = write(tmp_path / "s.tif", values, gcps=points, crs="EPSG:4326", transform=None)
    student = load_student(radar_student, device="cpu")
    predict_scene(student, source, tmp_path / "map.tif", tile=8, stride=8)
    with rasterio.open(tmp_path / "map.tif") as made:
        found, crs = made.gcps
    assert crs == "EPSG:4326"
    assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row / 8, p.col / 8, p.x, p.y) for p in points]


def test_rational_polynomials_are_kept(radar_student: Path, tmp_path: Path) -> None:
    from rasterio.rpc import RPC
    from rasterio.transform import RPCTransformer

    one, row, column = ([float(k == place) for k in range(20)] for place in (0, 2, 1))  # 1, longitude, latitude, ...
    given = RPC(
        height_off=0.0, height_scale=1.0, lat_off=50.0, lat_scale=0.1, long_off=7.0, long_scale=0.1,
        line_off=16.0, line_scale=16.0, line_num_coeff=row, line_den_coeff=one,
        samp_off=15.5, samp_scale=16.0, samp_num_coeff=column, samp_den_coeff=one,
    )  # fmt: skip
    source = write(tmp_path / "s.tif", random_bytes(1, 32, 32), rpcs=given, crs=None, transform=None)
    student = load_student(radar_student, device="cpu")
    predict_scene(student, source, tmp_path / "map.tif", tile=8, stride=8)
    with rasterio.open(source) as scene, rasterio.open(tmp_path / "map.tif") as made:
        assert made.transform.is_identity and made.rpcs.line_num_coeff == row
        with RPCTransformer(scene.rpcs) as before, RPCTransformer(made.rpcs) as after:
            edges = [0.0, 2.0, 4.0]
            expected = before.xy([8 * edge for edge in edges], [8 * edge for edge in edges], offset="ul")
            np.testing.assert_allclose(after.xy(edges, edges, offset="ul"), expected, atol=1e-6)


def test_bad_scenes_are_refused_and_leave_nothing(radar_student: Path, tmp_path: Path) -> None:
    student = load_student(radar_student, device="cpu")
    good = write(tmp_path / "good.tif", random_bytes(1, 300, 300))
    (tmp_path / "cut.tif").write_bytes(good.read_bytes()[:50_000])
    cases = [
        ("cut.tif", tmp_path / "cut.tif", {}),
        ("2 channels", write(tmp_path / "two.tif", random_bytes(2, 300, 300)), {}),
        ("float32", write(tmp_path / "float.tif", np.zeros((1, 300, 300), np.float32)), {}),
        ("white as 0", write(tmp_path / "white.tif", random_bytes(1, 300, 300), photometric="MINISWHITE"), {}),
        ("of 4 bits a value", write(tmp_path / "bits.tif", random_bytes(1, 300, 300) // 16, nbits=4), {}),
        ("a tile inside", good, {"tile": 301}),
        ("none.tif", tmp_path / "none.tif", {}),
        ("would overwrite the scene", good, {"out": good}),
        (r"map.png' must end in .tif", good, {"out": tmp_path / "map.png"}),
    ]
    blocks = write(tmp_path / "blocks.tif", random_bytes(1, 300, 300), compress="deflate")
    blocks.write_bytes(blocks.read_bytes()[:50_000])
    cases.append((r"\(.*blocks.tif, band 1: IReadBlock failed", blocks, {}))
    before = sorted(os.listdir(tmp_path))
    for said, source, options in cases:
        given: dict[str, Any] = {"tile": 8, "stride": 8, "out": tmp_path / "map.tif"} | options
        with pytest.raises(CmkdError, match=said):
            predict_scene(student, source, **given)
        assert sorted(os.listdir(tmp_path)) == before, said


@pytest.mark.parametrize(("channels", "way"), [(1, "-expand gray"), (3, "-expand rgb")])
def test_a_palette_is_not_classified_by_its_indices(channels: int, way: str, tmp_path: Path) -> None:
    modality = Modality("map", "image", (channels, 8, 8), "uint8", (0.0,) * channels, (1.0,) * channels)
    student = load_student(make_student(tmp_path, modality, ("a", "b"), "thin_resnet(width=4,stages=1)"), device="cpu")
    source = write(tmp_path / "palette.tif", random_bytes(1, 32, 32), photometric="palette")
    with rasterio.open(source, "r+") as file:
        file.write_colormap(1, {k: (255 - k, k, k, 255) for k in range(256)})
    with pytest.raises(CmkdError, match=way) as caught:
        predict_scene(student, source, tmp_path / "map.tif", tile=8, stride=8)
    assert "\n" not in str(caught.value) and not (tmp_path / "map.tif").exists()
