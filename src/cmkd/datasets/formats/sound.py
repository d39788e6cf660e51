"""Reading of WAV files, and log-mel spectrograms."""

from __future__ import annotations

import wave
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import Archive

WINDOW_SECONDS, HOP_SECONDS = 0.032, 0.010
LOWEST_HZ, FLOOR_DB = 60.0, -80.0


def mel_bank(rate: int, bands: int, *, lowest: float = LOWEST_HZ) -> NDArray[np.float64]:
    """Return triangular filters ``(bands, frequencies)``, equally wide on the mel scale of O'Shaughnessy (1987).

    Args:
        rate: samples per second.
        bands: number of filters.
        lowest: lower edge of the first filter, Hz; the upper edge of the last filter is half the rate.

    Example:
        >>> mel_bank(8000, 32).shape, bool((mel_bank(8000, 32).sum(1) > 0).all())
        ((32, 129), True)
    """
    low, high = (2595.0 * np.log10(1.0 + hertz / 700.0) for hertz in (lowest, rate / 2))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, bands + 2) / 2595.0) - 1.0)
    frequencies = np.fft.rfftfreq(round(WINDOW_SECONDS * rate), 1.0 / rate)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    bank: NDArray[np.float64] = np.minimum(rising, falling).clip(0.0)
    return bank


def log_mel(
    samples: NDArray[np.floating[Any]], rate: int, bank: NDArray[np.float64], frames: int
) -> NDArray[np.float32]:
    """Return the log-mel spectrogram of a recording, at a fixed loudness and length.

    Args:
        samples: recording ``(samples,)`` of any length.
        rate: samples per second.
        bank: filters from `mel_bank` for the same rate.
        frames: number of time steps, interpolated linearly from the time steps of the recording.

    Returns:
        ``(frames, bands)`` in dB relative to the loudest cell, `FLOOR_DB` to 0.

    Example:
        >>> tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / 8000)
        >>> spectrogram = log_mel(tone, 8000, mel_bank(8000, 32), 32)
        >>> spectrogram.shape, round(float(spectrogram.max())), int(spectrogram.mean(0).argmax())
        ((32, 32), 0, 14)
    """
    from scipy.signal import stft

    window, hop = round(WINDOW_SECONDS * rate), round(HOP_SECONDS * rate)
    padded = np.pad(samples, (0, max(0, window - len(samples))))
    _, _, spectrum = stft(padded, rate, "hann", window, window - hop, boundary=None, padded=False)
    decibels = 10.0 * np.log10(bank @ np.abs(spectrum) ** 2 + 1e-12)
    decibels = (decibels - decibels.max()).clip(FLOOR_DB)
    places, known = np.linspace(0.0, decibels.shape[1] - 1.0, frames), np.arange(decibels.shape[1])
    return np.stack([np.interp(places, known, row) for row in decibels], 1).astype(np.float32)


def read_wav(archive: Archive, name: str) -> tuple[int, NDArray[np.float32]]:
    """Return the rate and the samples of a 16-bit WAV file, -1 to 1, as the mean of its channels.

    Raises:
        CmkdError: the file is missing, damaged, truncated or empty, or does not have 16 bits.
    """
    with archive.decoding(name) as content, wave.open(content) as file:
        channels, width, rate, expected, *_ = file.getparams()
        frames = file.readframes(expected)
    if width != 2 or not expected or len(frames) != expected * channels * width:
        found = f"has {8 * width} bits and {len(frames)} bytes for {expected} samples"
        raise archive.error(name, f"{found}, expected a whole recording of 16 bits")
    samples = np.frombuffer(frames, "<i2").reshape(-1, channels).mean(1) / 32768.0
    return rate, samples.astype(np.float32)
