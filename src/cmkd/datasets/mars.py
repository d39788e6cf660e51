"""MARS: millimeter-wave radar points and Kinect skeletons of rehabilitation movements (An and Ogras 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet, Listing, read_pairs
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.matlab import open_hdf5
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://github.com/SizheAn/MARS/tree/dc90282/synced_data"
PEOPLE, MOVEMENTS, JOINTS, POINTS = (1, 2, 3, 4), tuple(range(1, 11)), 25, 64
PARTS = {"train": "train", "validation": "validate", "test": "test"}
"""Split of protocol ``time`` -> its name in the files."""
FEATURES = (2, 3, 4, 5, 6)
"""Rows of a radar file that are kept: x, y, z (m), Doppler (m/s), intensity; row 0 is the number of the frame."""
SPINE_BASE, HIP_LEFT, HIP_RIGHT = 0, 12, 16
"""Joints in Kinect 2's order; x points to the side, y up, z away from the sensor."""

Protocol = Literal["person", "time"]


@dataclass(frozen=True)
class MovementRecording:
    """The frames that both sensors have of one person doing one movement, in order of time."""

    person: int  # 1 to 4
    movement: int  # 1 to 10, as the file name says
    kinect: NDArray[np.float32]  # ``(frames, 75)`` meters: x of 25 joints, then y, then z, as in the source
    radar: NDArray[np.float32]  # ``(frames, points, 5)``, padded with zeros
    parts: NDArray[np.int64]  # official part of each frame: 0 train, 1 validate, 2 test


class Mars(DataSet):
    """Ten rehabilitation movements of four people, seen by a Kinect (rich) and a 77 GHz radar (poor).

    Radar and Kinect frames pair in order. The source cuts each movement in time into 60/20/20 and concatenates the
    parts over movements into three Kinect files per person. The radar files hold whole movements of n frames, so their
    parts have ``ceil(0.6 n)``, ``ceil(0.2 n)`` and the remaining frames; this agrees with the lengths of the Kinect
    files and is checked. Person 1 has no Kinect train file, so those radar frames are left out. Person 4 has nine
    movements.

    A sample is a window of consecutive paired frames of one recording; the source dropped some frames inside windows.
    The label is the movement. ``kinect`` is a series ``(window, 75)`` in meters, in the source's order of columns (x of
    all joints, then y, then z), relative to the mean position of the spine base over the window and rotated about the
    vertical until the mean direction of the hips is x. This removes where a person stands and faces (chosen with each
    of the persons 1 to 3 left out in turn, person 4 unseen). ``radar`` is a series of point sets ``(window, points,
    5)``: x, y, z, Doppler and intensity as measured, padded with zero rows; if a frame has more points, the strongest
    are kept.

    The ninth and last recording of person 4 is labeled movement 10, although its number is 9. Movement 9 of the others
    moves the left ankle (standard deviation of its position 0.22 to 0.28 m, of the right one 0.01 m); movement 10 moves
    the right one (0.17 to 0.34 m, left 0.01 m), and so does this recording (0.18 m, left 0.02 m). The wrists agree.
    With the published label, test accuracy on person 4 cannot exceed 0.903 (689 of 763 windows) for a classifier that
    tells left from right.

    Protocol ``person``: one person is the test split. Validation is the last 40 % in time of each movement of another
    person, one window apart from that person's train frames. It measures accuracy at a new time, not on a new person,
    because three people are too few to spare one. Groups are people; the person divided in time forms two groups.
    Protocol ``time``: the official 60/20/20 within each movement; a group is a person's movement in one part.

    Args:
        protocol: split protocol, ``person`` or ``time``.
        window: number of frames in a sample (the radar gives about 10 per second).
        stride: frames between the starts of train windows. Windows of validation and test never overlap.
        points: number of points per radar frame.
        test_person: person of the test split, 1 to 4; used by protocol ``person``.
        published_labels: label the ninth file of person 4 as movement 9, as published, to compare with other work.

    Raises:
        CmkdError: an option is out of range.
    """

    name = "mars"
    title = "Rehabilitation movements: Kinect skeletons and mmWave radar points, windows of synchronized frames"
    revision = 3
    rich = "kinect"
    poor = "radar"
    license = "MIT, (c) 2021 SizheAn"
    citation = """@article{an2021mars, title={MARS: mmWave-based Assistive Rehabilitation System for Smart Healthcare},
  author={An, Sizhe and Ogras, Umit Y.}, journal={ACM Transactions on Embedded Computing Systems}, volume={20},
  number={5s}, year={2021}}"""
    sources = (PublishedFile("MARS-synced.zip", ADDRESS),)
    group = "a person, or a part in time of the person who is divided"
    unsound = (
        "Four people: one is the test split, and another gives both train and validation. So validation (new time) is "
        "easier than test (a new person), and another test person gives another accuracy. Train windows overlap."
    )

    def __init__(
        self,
        *,
        protocol: Protocol = "person",
        window: int = 10,
        stride: int = 5,
        points: int = POINTS,
        test_person: int = 4,
        published_labels: bool = False,
    ) -> None:
        if protocol not in get_args(Protocol):
            raise CmkdError(f"unknown protocol '{protocol}' of mars: use person or time")
        if test_person not in PEOPLE:
            raise CmkdError(f"test_person {test_person} of mars is unknown: use 1, 2, 3 or 4")
        self.at_least_one(window=window, stride=stride, points=points)
        self.protocol, self.window, self.stride = protocol, window, stride
        self.points, self.test_person = points, test_person
        self.published_labels = published_labels

    @property
    def divided_person(self) -> int:
        """Person divided in time between train and validation: a person with all files who is not in test."""
        return 3 if self.test_person != 3 else 2

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from ``MARS-synced.zip``, its folder, or the publisher's repository, zipped or not."""
        unpacked = source is not None and source.is_dir() and any(source.rglob("wooutlier"))
        with self.opened(source, packed=not unpacked) as archive:
            windows = [
                (recording, split, group, start)
                for recording in recordings(archive, self.points)
                for split, group, first, last in self._stretches(recording)
                for start in range(first, last - self.window + 1, self.stride if split == "train" else self.window)
            ]
        record: dict[str, Any] = {"method": f"protocol {self.protocol}"}
        if self.protocol == "person":
            record |= {"test_person": self.test_person, "validation": f"last 40 % of person {self.divided_person}"}
            record["method"] += f": test person {self.test_person}, validation {record['validation']} in time"
        readers = {
            "kinect": lambda window: _from_the_front(window[0].kinect[window[3] : window[3] + self.window]),
            "radar": lambda window: window[0].radar[window[3] : window[3] + self.window],
        }
        return self.write(
            destination,
            Listing(
                [f"person{r.person}-movement{r.movement}-frame{start:04d}" for r, _, _, start in windows],
                [self._label(recording) for recording, *_ in windows],
                [split for _, split, _, _ in windows],
                record,
                read_pairs(windows, readers),
                [group for _, _, group, _ in windows],
            ),
            [
                Modality("kinect", "series", (self.window, 3 * JOINTS), "float32"),
                Modality("radar", "point_series", (self.window, self.points, len(FEATURES)), "float32"),
            ],
            classes=[f"movement {movement}" for movement in MOVEMENTS],
            notes=f"windows of {self.window} frames, train windows every {self.stride}.",
        )

    def _stretches(self, recording: MovementRecording) -> Iterator[tuple[str, str, int, int]]:
        """Yield ``split, group, first frame, frame past the last`` of each stretch from which windows are cut."""
        bounds = [int((recording.parts < part).sum()) for part in (0, 1, 2, 3)]
        person, end = f"person{recording.person}", bounds[3]
        if self.protocol == "time":
            for part, split in enumerate(PARTS):
                group = f"{person}-movement{recording.movement}-{split}"
                yield split, group, bounds[part], bounds[part + 1]
        elif recording.person == self.test_person:
            yield "test", person, 0, end
        elif recording.person == self.divided_person:
            yield "train", f"{person}-early", 0, bounds[1] - self.window
            yield "validation", f"{person}-late", bounds[1], end
        else:
            yield "train", person, 0, end

    def _label(self, recording: MovementRecording) -> int:
        mistaken = (recording.person, recording.movement) == (4, 9) and not self.published_labels
        return (10 if mistaken else recording.movement) - 1


def _from_the_front(kinect: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move a window ``(time, 75)`` in meters to the spine base, and rotate the hips to lie along x.

    Example:
        >>> window = np.zeros((1, 3, JOINTS), np.float32)
        >>> window[..., HIP_RIGHT] = 2.0  # on the diagonal, the other hip in the origin
        >>> [round(float(x), 2) for x in _from_the_front(window.reshape(1, 75)).reshape(3, JOINTS)[:, HIP_RIGHT]]
        [2.83, 2.0, 0.0]
    """
    joints = np.ascontiguousarray(kinect).reshape(-1, 3, JOINTS)
    x, y, z = (joints - joints[..., SPINE_BASE].mean(axis=0)[:, None]).transpose(1, 0, 2)
    hips = (joints[..., HIP_RIGHT] - joints[..., HIP_LEFT]).mean(axis=0)
    angle = np.arctan2(hips[2], hips[0])
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = np.stack([cosine * x + sine * z, y, cosine * z - sine * x], axis=1)
    return turned.reshape(kinect.shape).astype(np.float32)


def recordings(archive: Archive, points: int) -> Iterator[MovementRecording]:
    """Read the recordings that both sensors have, by person and movement, with `points` points per radar frame.

    Raises:
        CmkdError: a file is missing or damaged, or the frames of the two sensors do not match.
    """
    names = {n.rpartition("wooutlier/")[2]: n for n in archive.sizes if "/wooutlier/" in f"/{n}"}
    if not names:
        raise CmkdError(f"{archive.place} holds no folder synced_data/wooutlier: get it from {ADDRESS}")

    def found(name: str) -> str:
        if name not in names:
            raise CmkdError(f"{archive.place} lacks wooutlier/{name}: get it from {ADDRESS}")
        return names[name]

    for person in PEOPLE:
        movements = [m for m in MOVEMENTS if (person, m) != (4, 10)]
        radar = [_radar(archive, found(f"subject{person}/radar_data{m}.mat"), points) for m in movements]
        sizes = np.array([_sizes(len(clouds)) for clouds in radar])
        kinect: list[list[NDArray[np.float32]]] = [[] for _ in movements]
        parts = [part for part in range(3) if (person, part) != (1, 0)]  # this file is not published
        for part in parts:
            file = found(f"subject{person}/timesplit/kinect_data_{list(PARTS.values())[part]}.csv")
            table = _kinect(archive, file)
            if len(table) != sizes[:, part].sum():
                frames = f"{len(table)} frames where the radar files give {sizes[:, part].sum()}"
                raise archive.error(file, f"has {frames}: it is truncated or from another release")
            for pieces, piece in zip(kinect, np.split(table, np.cumsum(sizes[:, part])[:-1]), strict=True):
                pieces.append(piece)
        for movement, clouds, pieces, size in zip(movements, radar, kinect, sizes, strict=True):
            of = np.repeat(np.arange(3), size)
            paired = np.isin(of, parts)
            yield MovementRecording(person, movement, np.concatenate(pieces), clouds[paired], of[paired])


def _kinect(archive: Archive, name: str) -> NDArray[np.float32]:
    with archive.decoding(name) as content:
        table = pd.read_csv(content).to_numpy(dtype=np.float32)
    if table.ndim != 2 or table.shape[1] != 3 * JOINTS or not np.isfinite(table).all():
        raise archive.error(name, "is not a table of 75 numbers per frame")
    return table


def _radar(archive: Archive, name: str, points: int) -> NDArray[np.float32]:
    """Return the radar points ``(frames, points, 5)`` in a MATLAB 7.3 file."""
    with archive.decoding(name) as content, open_hdf5(content) as file:
        table = np.asarray(file["radar_data_cropped"], dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != 8 or not np.isfinite(table).all():
        raise archive.error(name, "is not a table of 8 rows")
    _, starts, counts = np.unique(table[0], return_index=True, return_counts=True)
    padded = np.zeros((len(starts), points, len(FEATURES)), dtype=np.float32)
    for frame, (start, count) in enumerate(zip(starts, counts, strict=True)):
        cloud = table[list(FEATURES), start : start + count].T
        if count > points:
            cloud = cloud[np.sort(np.argsort(-cloud[:, -1], kind="stable")[:points])]
        padded[frame, : len(cloud)] = cloud
    return padded


def _sizes(frames: int) -> tuple[int, int, int]:
    """Return the official numbers of train, validate and test frames in a movement of `frames` frames.

    Example:
        >>> _sizes(1002)
        (602, 201, 199)
    """
    train, validate = math.ceil(0.6 * frames), math.ceil(0.2 * frames)
    return train, validate, frames - train - validate
