"""Simulated captures as real files, and faults of ten kinds planted in them, each at a place that is written down."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from cmkd.simulators.marine.recipe import Recipe
from cmkd.simulators.marine.simulate import generate

Array = NDArray[Any]
KINDS = ("truncated", "wrong_shape", "swapped", "not_finite", "blank", "clipped", "low_contrast", "exact_duplicate",
         "near_duplicate", "misregistered")  # fmt: skip


@dataclass
class Captures:
    """A folder of files: optical (8-bit RGB PNG), radar (float TIFF, dB) and infrared (8-bit gray PNG).

    The infrared image is no simulation of its own: the optical one's luminance, turned around, blurred and with
    noise. It is there since simulated optical and radar images have different geometries and cannot be co-registered.
    """

    folder: Path
    arrays: dict[str, list[Array]]
    rows: list[dict[str, str]]

    def path(self, row: int, modality: str) -> Path:
        return self.folder / self.rows[row][modality]

    def save(self, row: int, modality: str, array: Array) -> None:
        save(self.path(row, modality), array)

    def write(self) -> None:
        header = list(self.rows[0])
        lines = [",".join(header), *(",".join(row[name] for name in header) for row in self.rows)]
        (self.folder / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")


def save(path: Path, array: Array) -> None:
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        Image.fromarray(array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)).save(path)


def make(folder: Path, pairs: int, seed: int, *, workers: int = 1) -> Captures:
    generator = np.random.default_rng(seed)
    arrays: dict[str, list[Array]] = {"optical": [], "radar": [], "infrared": []}
    rows = []
    # targets that fill the chip: where most of it is water, few of its samples tell of a fault (docs/your_data.md)
    for chunk in generate(Recipe(pairs, seed=seed, mode="airborne", size=80), folder / "chunks", workers=workers):
        for scene, optical, radar in zip(chunk.scenes, chunk.arrays["optical"], chunk.arrays["radar"], strict=True):
            warm = 255.0 - gaussian_filter(optical.mean(axis=0), 0.7) + generator.normal(0, 6, optical.shape[1:])
            arrays["optical"].append(optical)
            arrays["radar"].append(radar[0])
            arrays["infrared"].append(warm.clip(0, 255).astype(np.uint8)[None])
            name = f"{len(rows):04d}"
            rows.append({"id": name, "label": f"class{scene.label}", "group": scene.group, "optical": f"o{name}.png",
                         "radar": f"r{name}.tif", "infrared": f"i{name}.png"})  # fmt: skip
    made = Captures(folder, arrays, rows)
    for name, images in arrays.items():
        for row, image in enumerate(images):
            made.save(row, name, image)
    made.write()
    return made


def plant(captures: Captures, each: int, seed: int) -> dict[str, tuple[str, str]]:
    """Plant `each` faults of every kind; return pair -> kind and modality."""
    generator = np.random.default_rng((seed, 1))
    places = iter(generator.permutation(np.arange(len(captures.rows) // 4, len(captures.rows))).tolist())
    planted = {}
    for kind in KINDS:
        for number in range(each):
            row = next(places)
            planted[captures.rows[row]["id"]] = (kind, PLANTERS[kind](captures, row, number, generator))
    captures.write()
    return planted


def _truncated(captures: Captures, row: int, number: int, generator: np.random.Generator) -> str:
    modality = ("optical", "radar", "infrared")[number % 3]
    if number == 3:  # a lenient program read the part and saved the rest as gray
        array = captures.arrays["optical"][row].copy()
        array[:, 40:] = 128
        captures.save(row, "optical", array)
        return "optical"
    path = captures.path(row, modality)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * generator.uniform(0.3, 0.95))])
    return modality


def _wrong_shape(captures: Captures, row: int, number: int, generator: np.random.Generator) -> str:
    modality = ("optical", "radar", "infrared")[number % 3]
    array, path = captures.arrays[modality][row], captures.path(row, modality)
    match number:
        case 0:
            save(path, array[:1])  # gray
        case 2:
            Image.fromarray(array[0].astype(np.uint16) * 256).save(path)
        case 3:
            save(path, array[:, :, :50])
        case _:
            save(path, array[:48])
    return modality


def _swapped(captures: Captures, row: int, number: int, generator: np.random.Generator) -> str:
    first, second = (("optical", "radar"), ("optical", "infrared"), ("radar", "infrared"))[number % 3]
    cells = captures.rows[row]
    cells[first], cells[second] = cells[second], cells[first]
    return f"{first}+{second}"


def _not_finite(captures: Captures, row: int, number: int, generator: np.random.Generator) -> str:
    array = captures.arrays["radar"][row].copy()
    if number % 2:
        array[generator.integers(64), generator.integers(64)] = (np.inf, -np.inf)[number % 2]
    else:
        array[:5, :9] = np.inf
    captures.save(row, "radar", array)
    return "radar"


def _blank(captures: Captures, row: int, number: int, generator: np.random.Generator) -> str:
    modality = ("optical", "radar", "infrared")[number % 3]
    like = captures.arrays[modality][row]
    level = generator.integers(0, 255)
    flat = np.full(like.shape, level, like.dtype)
    if modality == "radar":
        flat = flat + generator.normal(0, 0.01, like.shape).astype(np.float32)
    captures.save(row, modality, flat)
    return modality


def _clipped(captures: Captures, row: int, number: int, generator: np.random.Generator) -> str:
    modality = ("optical", "radar", "infrared")[number % 3]
    array = captures.arrays[modality][row].astype(np.float64)
    part = generator.uniform(0.1, 0.4) if number < 3 or modality == "radar" else generator.uniform(0.85, 0.95)
    limit = np.quantile(array, part)
    if modality == "radar":  # a receiver that saturates
        spread = generator.normal(0, 1, array.shape)  # so that black water is no end of its own
        changed = np.minimum(array + spread, limit)
    elif part < 0.5:  # overexposed
        changed = array * 255 / max(limit, 1)
    else:  # underexposed
        changed = (array - limit) * 255 / max(array.max() - limit, 1)
    like = captures.arrays[modality][row].dtype
    captures.save(row, modality, changed.clip(0, 255).astype(like) if like == np.uint8 else changed.astype(like))
    return modality


def _low_contrast(captures: Captures, row: int, number: int, generator: np.random.Generator) -> str:
    modality = ("optical", "radar", "infrared")[number % 3]
    array = captures.arrays[modality][row].astype(np.float64)
    faded = array.mean() + (array - array.mean()) * generator.uniform(0.04, 0.08)
    captures.save(row, modality, faded.astype(captures.arrays[modality][row].dtype))
    return modality


def _earlier(captures: Captures, row: int, generator: np.random.Generator) -> int:
    """Return an earlier pair of another group, from the part in which nothing is planted."""
    rows = captures.rows
    free = [k for k in range(len(rows) // 4) if rows[k]["group"] != rows[row]["group"]]
    return int(generator.choice(free))


def _exact(captures: Captures, row: int, number: int, generator: np.random.Generator) -> str:
    modality = ("optical", "radar", "infrared")[number % 3]
    captures.save(row, modality, captures.arrays[modality][_earlier(captures, row, generator)])
    return modality


def _near(captures: Captures, row: int, number: int, generator: np.random.Generator) -> str:
    modality = ("optical", "radar", "infrared")[number % 3]
    array = captures.arrays[modality][_earlier(captures, row, generator)]
    if modality == "radar":
        captures.save(row, "radar", (array + generator.normal(2, 1.5, array.shape)).astype(np.float32))
        return modality
    image = Image.fromarray(array[0] if len(array) == 1 else np.moveaxis(array, 0, -1))
    if number == 0:  # compressed
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=60)
        image = Image.open(buffer)
    elif number == 3:  # brighter and noisy
        noisy = np.asarray(image) * 0.9 + 20 + generator.normal(0, 6, np.asarray(image).shape)
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    else:  # halved and doubled
        image = image.resize((32, 32)).resize((64, 64))
    image.save(captures.path(row, modality))
    return modality


def _misregistered(captures: Captures, row: int, number: int, generator: np.random.Generator) -> str:
    shift = generator.integers(6, 8) * generator.choice([-1, 1]), generator.integers(-7, 8)
    captures.save(row, "infrared", np.roll(captures.arrays["infrared"][row], shift, axis=(1, 2)))
    return "optical+infrared"


PLANTERS: dict[str, Callable[[Captures, int, int, np.random.Generator], str]] = {
    "truncated": _truncated, "wrong_shape": _wrong_shape, "swapped": _swapped, "not_finite": _not_finite,
    "blank": _blank, "clipped": _clipped, "low_contrast": _low_contrast, "exact_duplicate": _exact,
    "near_duplicate": _near, "misregistered": _misregistered,
}  # fmt: skip
