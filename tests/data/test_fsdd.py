"""Spoken digits over a simulated channel: speakers never cross splits, and the channel has the stated properties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmkd.datasets.degradations import PerImage
from cmkd.datasets.fsdd import BANDS, FRAMES, RATE, SAMPLES, Fsdd, channel, leveled, mel_bands, spectrogram
from cmkd.errors import CmkdError
from data.tiny import tiny_source

TIME = np.arange(SAMPLES) / RATE


def sine(hertz: float, amplitude: float = 0.1 * np.sqrt(2)) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * TIME)[None]


def test_speakers_stay_apart(tmp_path: Path) -> None:
    pack = Fsdd().prepare(tiny_source("fsdd", tmp_path / "source"), tmp_path / "pack")
    speakers = pack.index.groupby("split")["group"].unique().apply(sorted).to_dict()
    assert speakers == {
        "train": ["george", "jackson", "lucas", "nicolas"], "validation": ["theo"], "test": ["yweweler"],
    }  # fmt: skip
    assert (pack.index["id"].str[0].astype(int) == pack.index["label"]).all()
    milder = Fsdd(severity=0.0).prepare(tmp_path / "source", tmp_path / "milder")
    np.testing.assert_array_equal(milder.array("clean"), pack.array("clean"))
    assert (
        np.abs(milder.array("channel") - milder.array("clean")).mean()
        < np.abs(pack.array("channel") - pack.array("clean")).mean()
    )


def test_channel_has_the_stated_band_and_noise() -> None:
    for severity, upper in ((0.0, 3400.0), (1.0, 700.0)):
        noise_free = [
            channel(sine(hertz), severity=severity, generator=PerImage(0, [1]))
            - channel(np.zeros((1, SAMPLES)), severity=severity, generator=PerImage(0, [1]))
            for hertz in (60.0, 500.0, upper * 1.15)
        ]
        power = [10 * np.log10(np.square(sound[:, 800:-800]).mean() / 0.01) for sound in noise_free]
        assert power[0] < -20.0
        assert abs(power[1]) < 1.5
        assert power[2] < -6.0
    noise = channel(np.zeros((1, SAMPLES)), severity=1.0, generator=PerImage(0, [1]))
    assert 10 * np.log10(0.01 / np.square(noise).mean()) == pytest.approx(-5.0, abs=0.3)


def test_spectrogram_shows_pitch_and_time() -> None:
    assert mel_bands().shape == (BANDS, 129)
    np.testing.assert_allclose(mel_bands().sum(1), 1.0)
    low, high = (spectrogram(sine(hertz))[0, 0] for hertz in (400.0, 2500.0))
    assert low.shape == (BANDS, FRAMES)
    assert low[:, 30].argmax() > high[:, 30].argmax() + 10  # high bands on top
    late = sine(1000.0)
    late[:, : SAMPLES // 2] = 0
    view = spectrogram(late)[0, 0]
    assert (view[:, : FRAMES // 2 - 2] == -80.0).all()
    assert view[:, FRAMES // 2 + 2 :].max(0).min() > -40.0
    assert view.dtype == np.float32


def test_recordings_are_brought_to_one_level() -> None:
    short = leveled(np.full(100, 0.5, np.float32))
    assert short[:100] == pytest.approx(0.1)
    assert not short[100:].any()
    assert np.isfinite(leveled(np.zeros(9000, np.float32))).all()


def test_severity_is_checked() -> None:
    with pytest.raises(CmkdError, match="outside 0 to 1"):
        Fsdd(severity=-0.1)


@pytest.mark.slow
def test_published_recordings(published: Callable[[str], Path], tmp_path: Path) -> None:
    pack = Fsdd().prepare(published("fsdd"), tmp_path / "pack")
    assert pack.card.split["counts"] == {"train": 2000, "validation": 500, "test": 500}
    assert pack.index.groupby("split")["label"].value_counts().unstack().nunique(axis=1).tolist() == [1, 1, 1]
    clean = pack.array("clean")
    assert len(np.unique(clean.reshape(len(pack), -1), axis=0)) == len(pack)  # no recording is repeated
