"""The channel axis of an array is stated, follows from the shape or a model, or is refused, but never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cmkd import CmkdError, Modality
from cmkd.data.manifest.readers import inspect, read
from cmkd.data.manifest.sample import load, load_stored, sample

RNG = np.random.default_rng(0)


def saved(tmp_path: Path, *shape: int, name: str = "a.npy") -> tuple[Path, Any]:
    values = RNG.normal(size=shape).astype(np.float32)
    np.save(tmp_path / name, values) if name.endswith(".npy") else tifffile.imwrite(tmp_path / name, values)
    return tmp_path / name, values


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((11, 11, 144), True),
        ((144, 11, 11), False),
        ((13, 64, 64), False),
        ((64, 64, 13), True),
        ((3, 48, 64), False),
        ((48, 64, 3), True),
        ((1, 48, 64), False),
        ((2, 3, 3), False),
    ],
)
def test_the_shape_tells(tmp_path: Path, shape: tuple[int, ...], last: bool) -> None:
    path, values = saved(tmp_path, *shape)
    expected = np.moveaxis(values, -1, 0) if last else values
    assert inspect(path).shape == expected.shape
    np.testing.assert_array_equal(read(path), expected)
    assert read(path, "point_series").shape == shape  # channels are moved only in images


@pytest.mark.parametrize("shape", [(13, 48, 64), (5, 5, 5), (3, 3, 64), (5, 12, 9)])
def test_nothing_tells_until_it_is_stated(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path, values = saved(tmp_path, *shape)
    a, b, c = shape
    says = rf"may be {a} x {b} x {c} or {c} x {a} x {b}; say which, as in --channels NAME=first or --channels NAME=last"
    with pytest.raises(CmkdError, match=says):
        inspect(path)
    with pytest.raises(CmkdError, match=says):
        read(path)
    np.testing.assert_array_equal(read(path, channels="first"), values)
    np.testing.assert_array_equal(read(path, channels="last"), np.moveaxis(values, -1, 0))


def test_the_channels_of_a_model_tell(tmp_path: Path) -> None:
    bands = Modality("bands", "image", (13, 48, 64), "float32")
    for shape in ((13, 48, 64), (48, 64, 13)):
        path, values = saved(tmp_path, *shape)
        expected = values if shape[0] == 13 else np.moveaxis(values, -1, 0)
        np.testing.assert_array_equal(load(bands, path), expected)
        np.testing.assert_array_equal(sample(bands, values), expected)
    cube = Modality("cube", "image", (5, 5, 5), "float32")
    path, values = saved(tmp_path, 5, 5, 5)
    with pytest.raises(CmkdError, match="may be its first axis or its last; save it as TIFF, which records it"):
        load(cube, path)
    np.testing.assert_array_equal(load_stored(cube, path, "first"), values)
    np.testing.assert_array_equal(sample(cube, values), values)  # arrays have a fixed order of axes, files do not


def test_the_tags_of_a_tiff_tell(tmp_path: Path) -> None:
    values = RNG.normal(size=(144, 11, 11)).astype(np.float32)
    for name, written, planes in (("a.tif", values, "separate"), ("b.tif", np.moveaxis(values, 0, -1), "contig")):
        tifffile.imwrite(tmp_path / name, written, photometric="minisblack", planarconfig=planes)
        np.testing.assert_array_equal(read(tmp_path / name), values)
    path, pages = saved(tmp_path, 5, 12, 9, name="pages.tif")
    np.testing.assert_array_equal(read(path), pages)
    path, pages = saved(tmp_path, 11, 11, 144, name="rows.tif")  # 11 pages of 11 x 144: a patch written as it stood
    with pytest.raises(CmkdError, match="may be 11 x 11 x 144 or 144 x 11 x 11; say which"):
        read(path)
    np.testing.assert_array_equal(read(path, channels="last"), np.moveaxis(pages, -1, 0))
