"""Tiny sources of videos and of indoor scenes with depth."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

from cmkd.datasets.ave import LISTS
from cmkd.datasets.crema_d import CLASSES
from cmkd.datasets.nyu_depth import LABELED, ROOMS, SPLITS
from cmkd.datasets.sun_rgbd import SCENES
from data.tiny.files import cells, jpeg_bytes, wav_bytes


def write_frame(path: Path, generator: np.random.Generator, least: int) -> None:
    """Write a picture of noise whose brightness tells the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg_bytes(generator.integers(least, least + 60, (36, 48, 3), dtype=np.uint8)))


def ave(folder: Path, generator: np.random.Generator) -> None:
    """Write 24 videos, one of them in two lists."""
    (folder / "audio").mkdir()
    lines: dict[str, list[str]] = {split: [] for split in LISTS}
    for number in range(24):
        video, label = f"video{number:02d}", number % 4
        tone = 0.3 * np.sin(2 * np.pi * (300 + 300 * label) * np.arange(48000) / 8000)
        (folder / "audio" / f"{video}.wav").write_bytes(wav_bytes(tone + generator.normal(0, 0.01, 48000), 8000))
        for second in range(1, 5):
            write_frame(folder / "frames" / video / f"{second:04d}.jpg", generator, 40 * label)
        split = "train" if number < 16 else "validation" if number < 20 else "test"
        lines[split].append(f"Category {label}&{video}&good&1&4")
    lines["train"].append(lines["test"][0])
    for split, name in LISTS.items():
        (folder / name).write_text("\n".join(lines[split]) + "\n")


def crema_d(folder: Path, generator: np.random.Generator) -> None:
    """Write a clip of each emotion for five actors."""
    (folder / "AudioWAV").mkdir()
    for actor in range(1001, 1006):
        for label, code in enumerate(CLASSES):
            clip = f"{actor}_IEO_{code}_{'X' if (actor, code) == (1005, 'SAD') else 'XX'}"
            tone = 0.3 * np.sin(2 * np.pi * (200 + 200 * label) * np.arange(8000) / 16000)
            sound = wav_bytes(tone + generator.normal(0, 0.01, 8000), 16000)
            (folder / "AudioWAV" / f"{clip}.wav").write_bytes(sound)
            for number in (1, 2):
                write_frame(folder / "frames" / clip / f"{number:04d}.jpg", generator, 20 * label)


def nyu_depth(folder: Path, generator: np.random.Generator) -> None:
    """Write four views of 30 rooms, one room in both splits."""
    kinds = np.repeat([*ROOMS[:-1], "cafe"] * 3, 4)
    rooms = np.repeat(np.arange(30), 4)
    level = np.repeat(np.tile(np.arange(10), 3), 4)[:, None, None]
    with h5py.File(folder / LABELED, "w") as file:
        views = generator.integers(0, 60, (120, 3, 32, 24)) + 15 * level[..., None]
        file["images"] = views.astype(np.uint8)
        file["depths"] = (generator.uniform(1, 2, (120, 32, 24)) + 0.3 * level).astype(np.float32)
        for name, texts in (("sceneTypes", kinds), ("scenes", [f"room_{room:04d}" for room in rooms])):
            references = [
                file.create_dataset(f"#refs#/{name}{k}", data=np.array([[ord(c)] for c in text], np.uint16)).ref
                for k, text in enumerate(texts)
            ]
            file.create_dataset(name, data=np.array([references], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
    test = np.concatenate([np.arange(82, 121), [80]])[:, None]  # room 20 lies across the boundary
    savemat(folder / SPLITS, {"trainNdxs": np.setdiff1d(np.arange(1, 121), test)[:, None], "testNdxs": test})


def sun_rgbd(folder: Path, generator: np.random.Generator) -> None:
    """Write six views of four kinds of scene."""
    test = []
    for number in range(24):
        label = number % 4
        home = folder / "SUNRGBD" / "kv1" / "NYUdata" / f"NYU{number:04d}"
        (home / "image").mkdir(parents=True)
        (home / "depth_bfx").mkdir()
        (home / "scene.txt").write_text(SCENES[label])
        values = generator.integers(40 * label, 40 * label + 60, (24, 32, 3), dtype=np.uint8)
        (home / "image" / f"{home.name}.jpg").write_bytes(jpeg_bytes(values))
        millimeters = (generator.uniform(1000, 1500, (24, 32)) + 500 * label).astype(np.uint16)
        rotated = (millimeters << 3) | (millimeters >> 13)
        Image.fromarray(rotated).save(home / "depth_bfx" / f"{home.name}.png")
        test += [f"/n/fs/sun3d/data/SUNRGBD/kv1/NYUdata/{home.name}"] if number >= 16 else []
    savemat(folder / "allsplit.mat", {"alltest": cells(*test).T, "alltrain": cells().T})
