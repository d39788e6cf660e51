"""Degradations grow with severity, have separate randomness for each image, and have the stated physical moments."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cmkd.datasets.degradations import DEGRADATIONS, PerImage, degrade, gray, image_key
from cmkd.errors import CmkdError


def photos(count: int = 12, channels: int = 3, side: int = 32) -> NDArray[np.uint8]:
    """Return images of colored blobs, with edges, shades and flat parts."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] / side
    images = np.zeros((count, channels, side, side))
    for image in images:
        for plane in image:
            x, y, size, level = generator.uniform(0.2, 0.8, 4)
            plane[:] = 0.2 + 0.7 * level * ((rows - y) ** 2 + (columns - x) ** 2 < (size / 3) ** 2)
    return (255 * images).astype(np.uint8)


def correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_speckle_shows_amplitudes() -> None:
    flat = np.full((200, 1, 16, 16), 64, np.uint8)
    view = degrade(flat, "speckle", severity=0.0, generator=PerImage(0, range(200)))
    assert view.mean() == pytest.approx(255 * (64 / 255) ** 0.5 / 2, abs=0.6)


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_dtype_and_range(name: str, channels: int) -> None:
    images = photos(channels=channels)
    for severity in (0.0, 0.5, 1.0):
        view = degrade(images, name, severity=severity, generator=PerImage(0, range(12)))
        assert view.dtype == np.uint8
        assert view.shape == (12, 1 if DEGRADATIONS[name].gray else channels, 32, 32)
        assert len(np.unique(view)) > 1
        assert (images == photos(channels=channels)).all()


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_an_image_is_degraded_alone(name: str) -> None:
    """The result has the same bytes, whichever other images are in the chunk."""
    images, keys = photos(), [image_key(f"image{number}") for number in range(12)]
    whole = degrade(images, name, severity=0.6, generator=PerImage(3, keys))
    for rows in ([5], [11, 0], [7, 5, 2]):
        part = degrade(images[rows], name, severity=0.6, generator=PerImage(3, [keys[row] for row in rows]))
        np.testing.assert_array_equal(part, whole[rows])
    other = degrade(images, name, severity=0.6, generator=PerImage(4, keys))
    assert name == "blur" or (other != whole).any()  # a lens has no noise


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_severity_takes_the_image_away(name: str) -> None:
    """With higher severity, the mean view of an image is harder to distinguish from the mean view of another image."""
    images = photos(2)
    lost = []
    for severity in (0.1, 0.5, 0.9):
        views = [
            degrade(np.repeat(images[i : i + 1], 40, 0), name, severity=severity, generator=PerImage(i, range(40)))
            for i in (0, 1)
        ]
        first, second = (view.astype(float) for view in views)
        between = np.abs(first.mean(0) - second.mean(0)).mean()
        within = 0.5 * (first.std(0).mean() + second.std(0).mean())
        detail = np.abs(np.diff(first.mean(0), axis=-1)).mean()
        lost.append((between + detail) / (1.0 + within))
    assert lost[0] > lost[1] > lost[2]


def test_mildest_views_keep_the_image() -> None:
    images = photos(4, channels=1)
    for name, least in {"speckle": 0.95, "blur": 0.999, "low_light": 0.997, "few_bits": 0.999}.items():
        view = degrade(images, name, severity=0.0, generator=PerImage(0, range(4)))
        assert correlation(view, images) > least, name


def test_low_light_counts_photons() -> None:
    white = np.full((400, 1, 8, 8), 255, np.uint8)
    view = degrade(white, "low_light", severity=0.5, generator=PerImage(0, range(400)))
    electrons = view / 255.0 * (100.0 + 5.0 * np.sqrt(101.0))  # 1e4 ** 0.5 photons
    assert abs(electrons.mean() - 100.0) < 0.5  # standard error 0.06, and half a step of 0.6
    assert abs(electrons.var() - 101.0) < 3.0


def test_few_bits_are_few() -> None:
    view = degrade(photos(), "few_bits", severity=1.0, generator=PerImage(0, range(12)))
    assert set(np.unique(view)) == {0, 255}
    blocks = view.reshape(12, 8, 4, 8, 4)  # a quarter of 32 pixels each way
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    flat = np.full((200, 1, 16, 16), 64, np.uint8)
    assert abs(degrade(flat, "few_bits", severity=1.0, generator=PerImage(0, range(200))).mean() - 64.0) < 3.0  # dither


def test_sketch_marks_edges_and_no_shades() -> None:
    step = np.zeros((1, 1, 16, 16), np.uint8)
    step[..., 8:] = 200
    view = degrade(step, "sketch", severity=0.0, generator=PerImage(0, [0]))[0, 0]
    assert (view[:, 7:9] == 255).all()
    assert not view[:, :7].any()
    assert not view[:, 9:].any()


def test_spectrogram_shows_frequency_and_not_place() -> None:
    rows = np.arange(32)
    waves = np.stack([0.5 + 0.4 * np.sin(2 * np.pi * (rows + shift) / 4.0) for shift in (0, 1, 2)])
    images = np.rint(255 * np.repeat(waves[:, None, :, None], 32, -1)).astype(np.uint8)
    view = degrade(images, "spectrogram", severity=0.0, generator=PerImage(0, range(3)))
    assert view[0, 0, 4:, 0].argmax() + 4 in (16, 17)  # 8 cycles in 32 pixels, each row shown twice
    assert np.abs(view[0].astype(int) - view[2])[:, 16:18].max() < 3  # shifted by half a wave


def test_colors_become_luma() -> None:
    assert gray(np.ones((1, 3, 1, 1))).item() == pytest.approx(1.0)
    assert gray(np.eye(3)[1].reshape(1, 3, 1, 1)).item() == pytest.approx(0.587)


def test_errors() -> None:
    with pytest.raises(CmkdError, match="unknown degradation 'speckel': did you mean 'speckle'"):
        degrade(photos(1), "speckel", severity=0.5, generator=PerImage(0, [0]))
    with pytest.raises(CmkdError, match=r"severity 1\.5 is outside 0 to 1"):
        degrade(photos(1), "blur", severity=1.5, generator=PerImage(0, [0]))
