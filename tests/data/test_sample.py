"""Single samples of a known modality from files and arrays, and their resampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cmkd import CmkdError, Modality
from cmkd.data.manifest.resize import fit
from cmkd.data.manifest.sample import load, sample

SIDES = st.integers(1, 40)
RADAR = Modality("radar", "image", (1, 4, 6), "uint8")
ECHO = Modality("echo", "series", (5, 2), "int16")


@settings(max_examples=150, deadline=None)
@example(old=(1, 1), new=(7, 2), seed=0)
@example(old=(40, 3), new=(1, 2), seed=0)
@given(old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, st.integers(2, 40)), seed=st.integers(0, 99))
def test_resampling_is_that_of_torch(old: tuple[int, int], new: tuple[int, int], seed: int) -> None:
    """New widths start at 2, because torch is wrong for contiguous images of width 1; the next test covers width 1."""
    image = np.random.default_rng(seed).normal(size=(2, *old))
    resized = F.interpolate(torch.from_numpy(image)[None], new, mode="bilinear", antialias=True, align_corners=False)
    np.testing.assert_allclose(fit(image, "image", new), resized[0].numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_columns_are_resampled_as_rows_are(width: int) -> None:
    image = np.random.default_rng(0).normal(size=(3, 9, 13))
    expected = fit(image.transpose(0, 2, 1), "image", (width, 6)).transpose(0, 2, 1)
    np.testing.assert_allclose(fit(image, "image", (6, width)), expected, rtol=0, atol=1e-12)


def test_integers_are_rounded_within_their_range() -> None:
    image = np.random.default_rng(0).choice([0, 255], (1, 9, 9)).astype(np.uint8)
    found, exact = fit(image, "image", (20, 4)), fit(image.astype(np.float64), "image", (20, 4))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.rint(exact))
    for kind, value in (("int16", -32768), ("uint16", 65535), ("float16", 1000.5)):
        constant = np.full((1, 3, 3), value, kind)
        assert (fit(constant, "image", (7, 2)) == constant[0, 0, 0]).all()


@pytest.mark.parametrize(("nodata", "beside"), [(0, 1), (128, 129), (255, 254)])
def test_valid_values_that_resizing_averages_to_nodata_stay_valid(nodata: int, beside: int) -> None:
    image = np.array([[[nodata - 1, nodata + 1]]]).clip(0, 255).repeat(2, axis=1)
    image[image == nodata] = beside
    modality = Modality("radar", "image", (1, 4, 7), "uint8", nodata=nodata)
    found = sample(modality, image.astype(np.uint8))
    assert not np.ma.isMaskedArray(modality.masked(found)) and beside in found


def test_other_kinds_are_cut_or_padded_with_zeros() -> None:
    series = np.arange(1, 7).reshape(3, 2)
    np.testing.assert_array_equal(fit(series, "series", (2,)), series[:2])
    np.testing.assert_array_equal(fit(series, "points", (4,)), [*series.tolist(), [0, 0]])


def test_a_sample_has_the_shape_and_dtype_of_its_modality() -> None:
    for values in (
        np.full((4, 6), 7),
        np.full((1, 4, 6), 7.0),
        np.full((9, 3), 7, np.int8),
        np.full((2, 2), 7, np.float16),
    ):
        found = sample(RADAR, values)
        assert found.shape == (1, 4, 6) and found.dtype == np.uint8 and (found == 7).all()
    assert sample(RADAR, np.ones((4, 6), bool)).max() == 1
    assert sample(ECHO, np.full((9, 2), -3.0)).tolist() == [[-3, -3]] * 5
    assert sample(Modality("tone", "series", (5, 1), "float32"), np.ones(3)).tolist() == [[1]] * 3 + [[None]] * 2


@pytest.mark.parametrize(
    ("modality", "values", "says"),
    [
        (RADAR, np.full((4, 6), 7.5), "the array holds float64, but 'radar' is uint8"),
        (RADAR, np.full((4, 6), 256), "the array holds int64, but 'radar' is uint8"),
        (RADAR, np.full((4, 6), np.inf), "infinite values: fill them"),
        (RADAR, np.zeros((2, 4, 6)), "has 2 channels, but 'radar' has 1"),
        (RADAR, np.zeros(24), "does not fit the kind image"),
        (ECHO, np.zeros((5, 3)), "has 3 channels, but 'echo' has 2"),
        (ECHO, np.zeros((0, 2)), "is empty"),
        (ECHO, np.full((5, 2), 40000), "the array holds int64, but 'echo' is int16"),
        (ECHO, np.full((5, 2), None), "cannot be stored"),
        (Modality("wide", "vector", (2,), "float32"), np.full(2, -1e300), "holds 1e.300, which float32 cannot hold"),
    ],
)
def test_what_is_no_sample_is_one_line(modality: Modality, values: Any, says: str) -> None:  # noqa: ANN401
    with pytest.raises(CmkdError, match=says) as caught:
        sample(modality, values)
    assert "\n" not in str(caught.value)


def test_a_file_is_read_resized_and_named(tmp_path: Path) -> None:
    path = tmp_path / "echo.npy"
    np.save(path, np.ones((9, 2), np.int16))
    assert load(ECHO, path).shape == (5, 2)
    np.save(path, np.ones((9, 2), np.int32))  # values of another dtype may have another scale
    with pytest.raises(CmkdError, match=r"echo\.npy holds int32, but 'echo' is int16"):
        load(ECHO, path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CmkdError, match=r"echo\.npy cannot be read"):
        load(ECHO, path)
    np.save(path, np.full((9, 2), np.nan, np.float32))
    with pytest.raises(CmkdError, match=r"echo\.npy has no valid value"):
        load(Modality("echo", "series", (5, 2), "float32"), path)
