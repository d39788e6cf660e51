"""Thirty-seven files, each of which is not a valid 8-bit gray image for a different reason."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from scipy.io import wavfile


def write_broken(folder: Path, good: bytes, side: int) -> list[Path]:
    """Write the 37 broken files and return their paths.

    Args:
        folder: existing output folder.
        good: content of a valid PNG file.
        side: side of the expected images in pixels.
    """
    gray = np.full((side, side), 100, np.uint8)
    files = {**_damaged(good), **_arrays(folder, gray)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    _pictures(folder, gray)
    _no_files(folder)
    found = sorted(path for path in folder.iterdir() if path.name.startswith("broken"))
    if len(found) != 37:
        raise SystemExit(f"made {len(found)} broken files, not 37")
    return found


def _damaged(good: bytes) -> dict[str, bytes]:
    middle = len(good) // 2
    flipped = good[:middle] + bytes(255 - byte for byte in good[middle : middle + 50]) + good[middle + 50 :]
    return {
        "broken_empty.png": b"",
        "broken_half.png": good[:middle],
        "broken_end.png": good[:-12],
        "broken_signature.png": good[:8],
        "broken_flipped.png": flipped,
        "broken_zeros.png": bytes(1000),
        "broken_random.png": np.random.default_rng(0).bytes(1000),
        "broken_header.png": good[:16] + b"\xff\xff\xff\xff" + good[20:],
        "broken_text.png": b"not a picture",
        "broken_page.jpg": b"<html>404 not found</html>",
        "broken_suffix.tif": good,
        "broken_suffix.npy": good,
        "broken_suffix.wav": good,
    }


def _arrays(folder: Path, gray: np.ndarray[Any, Any]) -> dict[str, bytes]:
    arrays = {
        "nan": np.full(gray.shape, np.nan, np.float32),
        "infinite": np.full(gray.shape, np.inf, np.float32),
        "float": gray.astype(np.float32),
        "bands": np.stack([gray] * 3),
        "none": gray[:0],
        "complex": gray.astype(np.complex64),
        "pickled": np.array([{"a": 1}], dtype=object),
        "words": np.array([["a", "b"]]),
        "axes": gray[None, None, None],
    }
    for name, values in arrays.items():
        np.save(folder / f"broken_{name}.npy", values, allow_pickle=True)
    return {"broken_half.npy": (folder / "broken_bands.npy").read_bytes()[:2000]}


def _pictures(folder: Path, gray: np.ndarray[Any, Any]) -> None:
    image = Image.fromarray(gray)
    for mode in ("RGB", "RGBA", "P"):
        image.convert(mode).save(folder / f"broken_{mode}.png")
    Image.fromarray(gray.astype(np.uint16)).save(folder / "broken_16_bit.png")
    image.convert("RGB").save(folder / "broken_color.jpg")
    image.save(folder / "broken_half.jpg")
    os.truncate(folder / "broken_half.jpg", 300)
    tifffile.imwrite(folder / "broken_float.tif", gray.astype(np.float32))
    tifffile.imwrite(folder / "broken_half.tif", gray)
    os.truncate(folder / "broken_half.tif", 2000)
    wavfile.write(folder / "broken_sound.wav", 8000, gray[0].astype(np.int16))


def _no_files(folder: Path) -> None:
    (folder / "broken_folder.png").mkdir()
    (folder / "broken_link.png").symlink_to("nowhere.png")
    (folder / "broken_circle.png").symlink_to("broken_circle.png")
    os.mkfifo(folder / "broken_pipe.png")
    if os.geteuid():
        (folder / "broken_permission.png").touch(mode=0)
    else:  # root can read every file
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(folder / "broken_socket.png"))
