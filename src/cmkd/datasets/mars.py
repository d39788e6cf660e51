"""MARS: millimeter-wave radar points and Kinect skeletons of rehabilitation movements (An and Ogras 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackWriter
from cmkd.datasets.base import DataSet, Source
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.mars_files import (
    ADDRESS,
    FEATURES,
    JOINTS,
    MOVEMENTS,
    PEOPLE,
    POINTS,
    PublishedFiles,
    Recording,
    recordings,
    write_tiny,
)
from cmkd.errors import CmkdError
from cmkd.types import Modality

SPINE_BASE, HIP_LEFT, HIP_RIGHT = 0, 12, 16
"""Numbers of joints in Kinect 2's order; x is to the side, y up, z away from the sensor."""

Protocol = Literal["person", "time"]


class Mars(DataSet):
    """Ten rehabilitation movements of four people, seen by a Kinect (rich) and a 77 GHz radar (poor).

    The radar and Kinect frames pair in order. The source cuts each movement in time into 60/20/20 and concatenates the
    parts over movements into three Kinect files per person; the radar files are whole movements, so frame k of a
    movement belongs to the part that ``ceil(0.6 n)``, ``ceil(0.2 n)`` and the rest give. The files' lengths confirm it
    and are checked. Person 1 has no Kinect train file: those radar frames are left out. Person 4 has nine movements.

    A sample is a window of consecutive paired frames of one recording; some dropped frames lie inside windows. The
    label is the movement. ``kinect`` is a series ``(window, 75)`` in meters, in the source's order of columns (x of all
    joints, then y, then z), relative to the mean position of the spine base over the window and turned about the
    vertical until the hips, on average over it, lie along x: where a person stands and which way he faces say nothing
    (our choice, tried with each of the persons 1 to 3 left out in turn and person 4 unseen). ``radar`` is a series
    of point sets ``(window, points, 5)``: x, y, z, Doppler and intensity as measured, with zero rows behind each
    frame's points; where a frame has more points, the strongest are kept.

    The ninth and last recording of person 4 is movement 10, whatever its number says: movement 9 of the others moves
    the left ankle (standard deviation of its place 0.22 to 0.28 m, of the right one 0.01 m), movement 10 the right one
    (0.17 to 0.34 m, the left one 0.01 m), and this recording the right one (0.18 m, the left one 0.02 m); so do the
    wrists. It is labeled so here. With the published label no classifier that knows left from right gets it right, and
    test accuracy on person 4 cannot pass 0.903 (689 of 763 windows).

    Protocol ``person``: one person is the test split. Validation is the last 40 % in time of each movement of another
    person, one window apart from that person's train frames; it stands for new time, not for a new person, because
    three people are too few to spare one. So that no group crosses splits the groups are people, but the person whose
    time is divided is two groups. Protocol ``time``: the official 60/20/20 within each movement; a group is a person's
    movement in one part.

    Args:
        protocol: ``person`` or ``time``.
        window: frames of a sample (the radar gives about 10 a second).
        stride: frames between the starts of train windows. Windows of validation and test never overlap.
        points: points per radar frame.
        test_person: who is left out, 1 to 4; used by protocol ``person``.
        published_labels: label the ninth file of person 4 as movement 9, as its number says, to compare with the work
            of others.

    Raises:
        CmkdError: if an option is out of range.
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
    sources = (Source("MARS-synced.zip", "https://github.com/SizheAn/MARS/tree/dc90282/synced_data"),)
    group = "a person, or a part in time of the one who is divided"
    unsound = (
        "Four people: one tests, and another gives both train and validation, so validation (new time) promises more "
        "than test (a new person) keeps, and another person in test gives another figure. Windows overlap in train."
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
            raise CmkdError(f"test_person {test_person} of mars is not one of 1, 2, 3, 4")
        if min(window, stride, points) < 1:
            raise CmkdError(f"window, stride and points of mars must be at least 1, got {window}, {stride}, {points}")
        self.protocol, self.window, self.stride = protocol, window, stride
        self.points, self.test_person = points, test_person
        self.published_labels = published_labels

    @property
    def divided_person(self) -> int:
        """Whose recordings are divided in time between train and validation; has all files, and is not tested."""
        return 3 if self.test_person != 3 else 2

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack.

        Args:
            source: ``MARS-synced.zip``, the folder it is in, or the publisher's repository, zipped or not.
            destination: folder of the pack to make.

        Raises:
            CmkdError: a file is missing or damaged, or the frames of the two sensors do not match.
        """
        if source is None:
            raise CmkdError(f"mars needs its files: get {ADDRESS} and give their place, as in mars:PATH")
        packed = source / self.sources[0].name
        whole = source.is_dir() and not any(source.rglob("wooutlier")) and packed.is_file()
        with Archive(packed if whole else source, address=ADDRESS) as archive:
            return self._prepare(PublishedFiles.of(archive), destination)

    def _prepare(self, files: PublishedFiles, destination: Path) -> Pack:
        modalities = [
            Modality("kinect", "series", (self.window, 3 * JOINTS), "float32"),
            Modality("radar", "point_series", (self.window, self.points, len(FEATURES)), "float32"),
        ]
        counts = dict.fromkeys(("train", "validation", "test"), 0)
        record: dict[str, Any] = {"method": f"protocol {self.protocol}", "counts": counts}
        if self.protocol == "person":
            record |= {"test_person": self.test_person, "validation": f"last 40 % of person {self.divided_person}"}
            record["method"] += f": test person {self.test_person}, validation {record['validation']} in time"
        with self.writer(
            destination,
            classes=[f"movement {movement}" for movement in MOVEMENTS],
            modalities=modalities,
            split=record,
            notes=f"windows of {self.window} frames, train windows every {self.stride}.",
        ) as writer:
            for person in PEOPLE:
                for recording in recordings(files, person, self.points):
                    for split, group, first, last in self._stretches(recording):
                        counts[split] += self._write(writer, recording, split, group, first, last)
        return Pack.open(destination)

    def _stretches(self, recording: Recording) -> Iterator[tuple[str, str, int, int]]:
        """Yield ``split, group, first frame, frame past the last`` of the stretches that windows are cut from."""
        bounds = [int((recording.parts < part).sum()) for part in (0, 1, 2, 3)]
        person, end = f"person{recording.person}", bounds[3]
        if self.protocol == "time":
            for part, split in enumerate(("train", "validation", "test")):
                group = f"{person}-movement{recording.movement}-{split}"
                yield split, group, bounds[part], bounds[part + 1]
        elif recording.person == self.test_person:
            yield "test", person, 0, end
        elif recording.person == self.divided_person:
            yield "train", f"{person}-early", 0, bounds[1] - self.window
            yield "validation", f"{person}-late", bounds[1], end
        else:
            yield "train", person, 0, end

    def _write(self, writer: PackWriter, recording: Recording, split: str, group: str, first: int, last: int) -> int:
        starts = list(range(first, last - self.window + 1, self.stride if split == "train" else self.window))
        if not starts:
            return 0
        frames = np.asarray(starts)[:, None] + np.arange(self.window)
        kinect = recording.kinect[frames]
        joints = _from_the_front(kinect.reshape(len(starts), self.window, 3, JOINTS))
        writer.add(
            [f"person{recording.person}-movement{recording.movement}-frame{start:04d}" for start in starts],
            [self._label(recording)] * len(starts),
            [split] * len(starts),
            [group] * len(starts),
            {"kinect": joints.reshape(kinect.shape), "radar": recording.radar[frames]},
        )
        return len(starts)

    def _label(self, recording: Recording) -> int:
        mistaken = (recording.person, recording.movement) == (4, 9) and not self.published_labels
        return (10 if mistaken else recording.movement) - 1

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write 40 made-up frames per movement in the publisher's layout, with the same gaps, and return the folder."""
        return write_tiny(folder)


def _from_the_front(joints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move windows ``(n, time, 3, joints)`` in meters to the spine base, and turn the hips to lie along x.

    Example:
        >>> window = np.zeros((1, 1, 3, JOINTS), np.float32)
        >>> window[..., HIP_RIGHT] = 2.0  # on the diagonal, the other hip in the origin
        >>> [round(float(x), 2) for x in _from_the_front(window)[0, 0, :, HIP_RIGHT]]
        [2.83, 2.0, 0.0]
    """
    moved = joints - joints[..., SPINE_BASE].mean(axis=1)[:, None, :, None]
    hips = (joints[..., HIP_RIGHT] - joints[..., HIP_LEFT]).mean(axis=1)
    angle = np.arctan2(hips[:, 2], hips[:, 0])
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    x, y, z = moved[:, :, 0], moved[:, :, 1], moved[:, :, 2]
    return np.stack([cosine * x + sine * z, y, cosine * z - sine * x], axis=2).astype(np.float32)
