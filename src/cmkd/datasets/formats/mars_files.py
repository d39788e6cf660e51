"""The published files of MARS: which frames of the Kinect and of the radar belong together."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.datasets.formats.archive import Archive
from cmkd.errors import CmkdError

ADDRESS = "https://github.com/SizheAn/MARS (folder synced_data)"
PEOPLE, MOVEMENTS, JOINTS, POINTS = (1, 2, 3, 4), tuple(range(1, 11)), 25, 64
_PARTS = ("train", "validate", "test")
FEATURES = (2, 3, 4, 5, 6)
"""Rows of a radar file that are kept: x, y, z (m), Doppler (m/s), intensity; frame is row 0."""


@dataclass(frozen=True)
class Recording:
    """One person doing one movement: the frames that both sensors have, in order of time.

    Args:
        person: 1 to 4.
        movement: 1 to 10.
        kinect: ``(frames, 75)`` meters: x of 25 joints, then y, then z, as in the source.
        radar: ``(frames, points, 5)``, padded with zeros.
        parts: the official part of each frame: 0 train, 1 validate, 2 test.
    """

    person: int
    movement: int
    kinect: NDArray[np.float32]
    radar: NDArray[np.float32]
    parts: NDArray[np.int64]


@dataclass(frozen=True)
class PublishedFiles:
    """The published files, by their path below ``wooutlier``.

    Args:
        archive: an open archive or folder; ``wooutlier`` may lie deep in it.
        names: path below ``wooutlier`` -> name in the archive.
    """

    archive: Archive
    names: Mapping[str, str]

    @classmethod
    def of(cls, archive: Archive) -> PublishedFiles:
        """Find them, or raise with the address."""
        inside = (name for name in archive.sizes if "/wooutlier/" in f"/{name}")
        names = {name.rpartition("wooutlier/")[2]: name for name in inside}
        if not names:
            raise CmkdError(f"{archive.place} holds no folder synced_data/wooutlier: get it from {ADDRESS}")
        return cls(archive, names)

    @property
    def place(self) -> Path:
        """The archive or folder, for errors."""
        return self.archive.place

    def read(self, name: str) -> bytes:
        """Return a file, or raise with the address."""
        if name not in self.names:
            raise CmkdError(f"{self.archive.place} lacks wooutlier/{name}: get it from {ADDRESS}")
        return self.archive.read(self.names[name])


def recordings(files: PublishedFiles, person: int, points: int) -> Iterator[Recording]:
    """Read the recordings of a person that both sensors have."""
    movements = [m for m in MOVEMENTS if f"subject{person}/radar_data{m}.mat" in files.names]
    expected = [m for m in MOVEMENTS if (person, m) != (4, 10)]
    for movement in expected:
        if movement not in movements:
            files.read(f"subject{person}/radar_data{movement}.mat")
    radar = {m: _radar(files, f"subject{person}/radar_data{m}.mat", points) for m in expected}
    sizes = {m: _sizes(len(radar[m])) for m in expected}
    kinect: dict[int, list[NDArray[np.float32]]] = {m: [] for m in expected}
    parts: list[int] = []
    for part, name in enumerate(_PARTS):
        file = f"subject{person}/timesplit/kinect_data_{name}.csv"
        if (person, name) == (1, "train"):
            continue  # not published
        table = _kinect(files, file)
        lengths = [sizes[m][part] for m in expected]
        if len(table) != sum(lengths):
            raise CmkdError(
                f"wooutlier/{file} in {files.place} has {len(table)} frames where the radar files give {sum(lengths)}: "
                f"it is truncated or of another release; get it from {ADDRESS}"
            )
        parts.append(part)
        for movement, piece in zip(expected, np.split(table, np.cumsum(lengths)[:-1]), strict=True):
            kinect[movement].append(piece)
    for movement in expected:
        of = np.repeat(np.arange(3), sizes[movement])
        paired = np.isin(of, parts)
        yield Recording(person, movement, np.concatenate(kinect[movement]), radar[movement][paired], of[paired])


def _kinect(files: PublishedFiles, name: str) -> NDArray[np.float32]:
    try:
        table = pd.read_csv(io.BytesIO(files.read(name))).to_numpy(dtype=np.float32)
    except CmkdError:
        raise
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise CmkdError(f"wooutlier/{name} in {files.place} is damaged: get it again from {ADDRESS}") from error
    if table.ndim != 2 or table.shape[1] != 3 * JOINTS or not np.isfinite(table).all():
        raise CmkdError(f"wooutlier/{name} in {files.place} is no table of 75 numbers per frame: get it from {ADDRESS}")
    return table


def _radar(files: PublishedFiles, name: str, points: int) -> NDArray[np.float32]:
    """Return ``(frames, points, 5)`` of a MATLAB 7.3 file."""
    import h5py

    content = files.read(name)
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            table = np.asarray(file["radar_data_cropped"], dtype=np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise CmkdError(f"wooutlier/{name} in {files.place} is damaged: get it again from {ADDRESS}") from error
    if table.ndim != 2 or table.shape[0] != 8 or not np.isfinite(table).all():
        raise CmkdError(f"wooutlier/{name} in {files.place} is no table of 8 rows: get it from {ADDRESS}")
    _, starts, counts = np.unique(table[0], return_index=True, return_counts=True)
    padded = np.zeros((len(starts), points, len(FEATURES)), dtype=np.float32)
    for frame, (start, count) in enumerate(zip(starts, counts, strict=True)):
        cloud = table[list(FEATURES), start : start + count].T
        if count > points:
            cloud = cloud[np.sort(np.argsort(-cloud[:, -1], kind="stable")[:points])]
        padded[frame, : len(cloud)] = cloud
    return padded


def _sizes(frames: int) -> tuple[int, int, int]:
    """Return the official lengths of train, validate and test of a movement.

    Example:
        >>> _sizes(1002)
        (602, 201, 199)
    """
    train, validate = math.ceil(0.6 * frames), math.ceil(0.2 * frames)
    return train, validate, frames - train - validate


def write_tiny(folder: Path) -> Path:
    """Write 40 made-up frames per movement in the publisher's layout, with the same gaps, and return the folder."""
    import h5py

    generator = np.random.default_rng(0)
    for person in PEOPLE:
        home = folder / "synced_data" / "wooutlier" / f"subject{person}"
        (home / "timesplit").mkdir(parents=True)
        parts: dict[str, list[NDArray[np.float64]]] = {part: [] for part in _PARTS}
        for movement in MOVEMENTS[: 9 if person == 4 else 10]:
            skeleton = generator.normal(0, 0.05, (40, 3 * JOINTS)) + np.linspace(0, movement, 3 * JOINTS)
            for part, size, end in zip(_PARTS, _sizes(40), np.cumsum(_sizes(40)), strict=True):
                parts[part].append(skeleton[end - size : end])
            with h5py.File(home / f"radar_data{movement}.mat", "w") as file:
                file["radar_data_cropped"] = _tiny_radar(generator, movement)
        for part in _PARTS:
            if (person, part) != (1, "train"):
                columns = [f"Joint{joint}_{axis}" for axis in "XYZ" for joint in range(JOINTS)]
                table = pd.DataFrame(np.concatenate(parts[part]), columns=columns)
                table.to_csv(home / "timesplit" / f"kinect_data_{part}.csv", index=False)
    return folder


def _tiny_radar(generator: np.random.Generator, movement: int) -> NDArray[np.float64]:
    frames = np.repeat(np.arange(100, 140), generator.integers(1, 9, 40))
    values = generator.normal(movement, 1.0, (8, len(frames)))
    values[0] = frames
    return values
