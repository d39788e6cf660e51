"""Every file format gives back the values that were written, and damaged files are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.io import wavfile

from cmkd.data.manifest.content import Content
from cmkd.data.manifest.readers import inspect, read
from cmkd.data.manifest.resize import fit, fitted_shape
from cmkd.errors import CmkdError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 255, (12, 9), dtype=np.uint8)
RGB = RNG.integers(0, 255, (12, 9, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65535, (12, 9, 3), dtype=np.uint16)
BANDS = RNG.normal(-12, 4, (5, 12, 9)).astype(np.float32)
Writer = Callable[[Path], Any]


def tiff(values: NDArray[Any], **options: object) -> Writer:
    return lambda path: tifffile.imwrite(path, values, **options)


def pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for band in BANDS:
            file.write(band, contiguous=False)


def palette(path: Path) -> None:
    Image.fromarray(RGB).quantize(16).save(path)


CASES: list[tuple[str, Writer, NDArray[Any]]] = [
    ("gray.png", lambda p: Image.fromarray(GRAY).save(p), GRAY[None]),
    ("rgb.png", lambda p: Image.fromarray(RGB).save(p), RGB.transpose(2, 0, 1)),
    ("rgba.PNG", lambda p: Image.fromarray(np.dstack([RGB, GRAY])).save(p), np.dstack([RGB, GRAY]).transpose(2, 0, 1)),
    ("grey16.png", lambda p: Image.fromarray(DEEP[..., 0]).save(p), DEEP[None, ..., 0]),
    ("rgb16.png", lambda p: p.write_bytes(imagecodecs.png_encode(DEEP)), DEEP.transpose(2, 0, 1)),
    ("uint16.tif", tiff(DEEP[..., 0]), DEEP[None, ..., 0]),
    ("contiguous.tif", tiff(DEEP, photometric="rgb", planarconfig="contig"), DEEP.transpose(2, 0, 1)),
    ("planar.tiff", tiff(BANDS, photometric="minisblack", planarconfig="separate"), BANDS),
    ("bands_last.tif", tiff(BANDS.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig"), BANDS),
    ("tiled.tif", tiff(BANDS, planarconfig="separate", photometric="minisblack", tile=(16, 16)), BANDS),
    ("lzw.tif", tiff(BANDS, planarconfig="separate", photometric="minisblack", compression="lzw"), BANDS),
    ("predictor.tif", tiff(DEEP[..., 0], compression="deflate", predictor=True), DEEP[None, ..., 0]),
    ("big_endian.tif", tiff(DEEP[..., 0], byteorder=">"), DEEP[None, ..., 0]),
    ("float64.tif", tiff(BANDS[0].astype(np.float64)), BANDS[:1]),
    ("pages.tif", pages, BANDS),
    ("series.csv", lambda p: pd.DataFrame(BANDS[0]).to_csv(p, index=False), BANDS[0]),
    ("series.parquet", lambda p: pd.DataFrame(GRAY, columns=list("abcdefghi")).to_parquet(p), GRAY),
    ("vector.npy", lambda p: np.save(p, BANDS[0, 0]), BANDS[0, 0]),
    ("matrix.npy", lambda p: np.save(p, BANDS[0]), BANDS[:1]),
    ("first.npy", lambda p: np.save(p, BANDS), BANDS),
    ("last.npy", lambda p: np.save(p, BANDS.transpose(1, 2, 0)), BANDS),
    ("fortran.npy", lambda p: np.save(p, np.asfortranarray(BANDS)), BANDS),
    ("big_endian.npy", lambda p: np.save(p, BANDS.astype(">f4")), BANDS),
    ("float64.npy", lambda p: np.save(p, BANDS.astype(np.float64)), BANDS),
    ("bool.npy", lambda p: np.save(p, GRAY > 99), (GRAY > 99)[None].astype(np.uint8)),
    ("mono.wav", lambda p: wavfile.write(p, 8000, DEEP[..., 0].reshape(-1).view(np.int16)),
     DEEP[..., 0].reshape(-1, 1).view(np.int16)),
    ("stereo.wav", lambda p: wavfile.write(p, 8000, BANDS[0, :, :2]), BANDS[0, :, :2]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "expected"), CASES, ids=[case[0] for case in CASES])
def test_round_trip(tmp_path: Path, name: str, write: Writer, expected: NDArray[Any]) -> None:
    path = tmp_path / name
    write(path)
    order: Any = "last" if name == "last.npy" else "first" if name.endswith(".npy") else None
    header = inspect(path, channels=order)
    values = read(path, header.kind, channels=order)
    assert (header.shape, header.dtype) == (expected.shape, expected.dtype.name)
    assert values.dtype == expected.dtype
    assert values.dtype.isnative
    np.testing.assert_array_equal(values, expected)
    series = path.suffix in (".wav", ".csv", ".parquet")
    assert header.kind == ("series" if series else "vector" if "vector" in name else "image")
    held = Content("the body", path.suffix, path.read_bytes())
    assert inspect(held, channels=order) == header
    np.testing.assert_array_equal(read(held, header.kind, channels=order), expected)


def test_palette_and_jpeg_are_color(tmp_path: Path) -> None:
    palette(tmp_path / "a.png")
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).transpose(2, 0, 1)
    assert inspect(tmp_path / "a.png").shape == (3, 12, 9)
    np.testing.assert_array_equal(read(tmp_path / "a.png", "image"), expected)
    smooth = np.broadcast_to(np.linspace(0, 200, 64, dtype=np.uint8)[:, None, None], (64, 48, 3))
    Image.fromarray(np.ascontiguousarray(smooth)).save(tmp_path / "b.jpg", quality=95)
    assert inspect(tmp_path / "b.jpg").shape == (3, 64, 48)
    values = read(tmp_path / "b.jpg", "image").astype(int)
    assert np.abs(values - smooth.transpose(2, 0, 1)).max() < 8  # JPEG is lossy


@pytest.mark.parametrize(("suffix", "place"), [(".csv", 1), (".parquet", 2)])
def test_the_numbers_of_rows_are_no_feature(tmp_path: Path, suffix: str, place: int) -> None:
    path, one = tmp_path / f"a{suffix}", pd.DataFrame({"speed": np.arange(8.0)}).iloc[[1, 2, 5]]
    one.to_csv(path) if suffix == ".csv" else one.to_parquet(path)
    with pytest.raises(CmkdError, match=rf"column {place} has no name, where pandas writes .*index=False, or name"):
        inspect(path)


@pytest.mark.parametrize("kind", ["series", "points"])
def test_kind_of_an_array_can_be_named(tmp_path: Path, kind: Any) -> None:  # noqa: ANN401
    np.save(tmp_path / "a.npy", BANDS[0])
    assert inspect(tmp_path / "a.npy", kind).shape == (12, 9)
    np.testing.assert_array_equal(read(tmp_path / "a.npy", kind), BANDS[0])
    np.save(tmp_path / "b.npy", BANDS.transpose(1, 2, 0))  # axes of point sets are never moved
    assert inspect(tmp_path / "b.npy", "point_series").shape == (12, 9, 5)
    with pytest.raises(
        CmkdError, match=r"which does not fit the kind vector \(features\): reshape it, or choose another"
    ):
        inspect(tmp_path / "a.npy", "vector")


TRUNCATED = ["rgb.png", "rgb16.png", "uint16.tif", "planar.tiff", "tiled.tif", "lzw.tif", "pages.tif", "first.npy",
             "mono.wav", "stereo.wav"]  # fmt: skip


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.97])
@pytest.mark.parametrize("name", TRUNCATED)
def test_truncated_file_is_named(tmp_path: Path, name: str, keep: float) -> None:
    path = tmp_path / name
    next(write for case, write, _ in CASES if case == name)(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CmkdError, match="truncated") as caught:
        read(path, inspect(path).kind)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_jpeg_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.tile(RGB, (8, 8, 1))).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(CmkdError, match=r"a\.jpg cannot be read; it is truncated"):
        read(tmp_path / "a.jpg", "image")


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("a.npy", lambda p: np.save(p, GRAY + 1j), "is complex: save its amplitude"),
        ("a.tif", tiff(GRAY.astype(np.complex64)), "is complex: save its amplitude"),
        ("a.npy", lambda p: np.save(p, np.array([{}], dtype=object), allow_pickle=True), "cannot be read"),
        ("a.npy", lambda p: np.save(p, BANDS[None, None]), "which does not fit the kind image"),
        ("a.npy", lambda p: np.save(p, np.zeros((3, 0))), "is empty"),
        ("a.npy", lambda p: np.save(p, np.float32(3)), "which does not fit the kind image"),
        ("a.npy", lambda p: np.save(p, np.array(["x"])), "cannot be stored"),
        ("a.npy", lambda p: np.save(p, GRAY.astype(np.uint32)), "holds uint32, which cannot be stored"),
        ("a.tif", tiff(np.where(BANDS > 0, np.inf, BANDS)), "holds infinite values"),
        ("a.txt", lambda p: p.write_text("x"), "unsupported file type; supported: .png"),
        ("a.png", lambda p: p.write_text("no picture"), "cannot be read"),
        ("a.wav", lambda p: p.write_bytes(b"RIFF"), "cannot be read"),
        ("a.png", lambda p: None, "does not exist"),
    ],
)
def test_unusable_file_is_named(tmp_path: Path, name: str, write: Writer, says: str) -> None:
    write(tmp_path / name)
    with pytest.raises(CmkdError, match=says) as caught:
        read(tmp_path / name, inspect(tmp_path / name).kind)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("child", [0, 1])
def test_a_mask_in_a_tiff_or_beside_it_is_refused(tmp_path: Path, child: int) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(DEEP[..., 0], metadata=None, subifds=child)
        file.write(DEEP[..., 0] > 99, photometric="mask", subfiletype=4, metadata=None)
    tifffile.imwrite(tmp_path / "b.tif", DEEP[..., 0])
    (tmp_path / "b.tif.msk").touch()  # as GDAL writes it
    with pytest.raises(CmkdError, match=r"b\.tif has a mask in b\.tif\.msk, .*: save it with a nodata value instead"):
        read(tmp_path / "b.tif")
    with pytest.raises(CmkdError, match=r"a\.tif has an internal mask, .*: save it with a nodata value instead"):
        inspect(tmp_path / "a.tif")


def test_nodata_in_a_file_of_gdal_beside_a_picture_is_to_be_stated(tmp_path: Path) -> None:
    def auxiliary(name: str, value: object) -> Path:
        band = f'<PAMRasterBand band="1"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
        (tmp_path / f"{name}.aux.xml").write_text(f"<PAMDataset>{band}</PAMDataset>")  # as GDAL writes it
        return tmp_path / name

    Image.fromarray(DEEP[..., 0]).save(tmp_path / "a.png")
    path = auxiliary("a.png", "0.00000000000000E+00")
    with pytest.raises(CmkdError, match=r"a\.png has NoData 0 in a\.png\.aux\.xml, .*--nodata MODALITY=0"):
        read(path)
    assert not np.ma.isMaskedArray(read(path, nodata="none")) and np.ma.is_masked(read(path, nodata=int(DEEP[0, 0, 0])))
    for name, tags, value in (("tag.tif", [(42113, "s", 0, "7", True)], 7), ("b.tif", [], "nan")):
        tifffile.imwrite(tmp_path / name, DEEP[..., 0], extratags=tags)
        read(auxiliary(name, value))
    with pytest.raises(CmkdError, match=r"b\.tif has NoData -9999 in b\.tif\.aux\.xml"):
        read(auxiliary("b.tif", -9999))


def test_a_scale_or_offset_in_a_file_of_gdal_beside_a_picture_is_refused(tmp_path: Path) -> None:
    Image.fromarray(DEEP[..., 0]).save(path := tmp_path / "a.png")
    band = '<PAMRasterBand band="1"><Offset>{}</Offset><Scale>{}</Scale></PAMRasterBand>'
    for offset, scale, said in (("0", "0.01", "Scale 0.01"), ("-50", "1", "Offset -50"), ("0", "1", "")):
        (tmp_path / "a.png.aux.xml").write_text(f"<PAMDataset>{band.format(offset, scale)}</PAMDataset>")
        if said:
            with pytest.raises(CmkdError, match=rf"a\.png has {said} in a\.png\.aux\.xml, .*gdal_translate -unscale"):
                read(path, nodata=0)
    np.testing.assert_array_equal(read(path), DEEP[None, ..., 0])


def test_a_header_that_promises_more_reserves_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    with pytest.raises(CmkdError, match="truncated"):
        read(tmp_path / "a.npy", "image")


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path / "sprung").touch, ()

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(CmkdError):
        inspect(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


def test_resizing_keeps_the_mean_and_does_not_alias() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    small = fit(board[None].astype(np.uint8), "image", (16, 16))
    assert small.dtype == np.uint8
    assert np.abs(small.astype(int) - 127.5).max() < 20  # sampling without a filter gives 0 or 255
    exact = fit(BANDS, "image", (24, 18))
    assert exact.dtype == np.float32
    np.testing.assert_allclose(exact.mean((1, 2)), BANDS.mean((1, 2)), rtol=0.05)
    assert fit(BANDS, "image", (12, 9)) is BANDS


def test_padding_and_cutting() -> None:
    series = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(fit(series, "series", (2,)), series[:2])
    np.testing.assert_array_equal(fit(series, "points", (4,)), [*series, [0, 0]])
    clouds = np.ones((2, 3, 5))
    assert fit(clouds, "point_series", (3, 2)).sum() == 2 * 2 * 5
    with pytest.raises(CmkdError, match="a size for image needs 2 positive numbers of at most 16777216, got 64"):
        fitted_shape("image", (1, 8, 8), (64,))


@pytest.mark.parametrize("text", ["x;y\n1;2\n3;4\n", "x;y\n1,5;2,5\n3,5;4,5\n"])
def test_a_table_separated_by_semicolons_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "series.csv").write_text(text)
    with pytest.raises(CmkdError, match=r"series\.csv is separated by semicolons: save it with commas"):
        inspect(tmp_path / "series.csv")
    (tmp_path / "series.csv").write_text("|v|\n1\n2\n")
    np.testing.assert_array_equal(read(tmp_path / "series.csv"), [[1], [2]])


def test_a_table_whose_first_line_holds_numbers_is_refused(tmp_path: Path) -> None:
    for text in ("1,1\n2,2\n3,3\n", "0\n1\n2\n", "1.5e3,nan\n2,2\n"):
        (tmp_path / "series.csv").write_text(text)
        with pytest.raises(CmkdError, match=r"series.csv holds numbers in its first line.* add a line above it"):
            read(tmp_path / "series.csv")
    for text in ("0,1\n2,2\n3,3\n", "x,400\n2,2\n3,3\n"):  # pandas writes unnamed columns like this
        (tmp_path / "series.csv").write_text(text)
        np.testing.assert_array_equal(read(tmp_path / "series.csv"), [[2, 2], [3, 3]])
