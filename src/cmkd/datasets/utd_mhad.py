"""UTD-MHAD: Kinect skeletons and a wearable inertial sensor of the same actions (Chen et al. 2015)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet, Listing, read_pairs
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.matlab import read_mat
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://personal.utdallas.edu/~kehtar/UTD-MHAD.html"
ACTIONS = (
    *("swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shoot", "draw x"),
    *("draw circle clockwise", "draw circle counterclockwise", "draw triangle", "bowling", "front boxing"),
    *("baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch", "pick up and throw"),
    *("jog", "walk", "sit to stand", "stand to sit", "lunge", "squat"),
)
TRAIN_SUBJECTS, TEST_SUBJECTS = (1, 3, 5, 7), (2, 4, 6, 8)
JOINTS, HIP_CENTER, AXES = 20, 3, 6
VIEWS = {"skeleton": ("Skeleton", "d_skel"), "inertial": ("Inertial", "d_iner")}
"""Modality -> folder of its files, and name of the array in each file."""
_FILE = re.compile(r"a(\d+)_s(\d+)_t(\d+)_skeleton\.mat")


class UtdMhad(DataSet):
    """27 actions of eight people, up to four times each: a Kinect skeleton (rich), one inertial sensor (poor).

    ``skeleton`` is a series ``(frames, 60)`` in meters, 20 joints by x, y, z, relative to the mean position of the hip
    center. ``inertial`` is a series ``(samples, 6)``: acceleration in g along three axes, then rotation in degrees per
    second about these axes. A recording holds one action; both series are stretched to a fixed length by linear
    interpolation, so the duration of an action is lost (our choice).

    Splits: as in the paper, subjects 1, 3, 5 and 7 are for training and 2, 4, 6 and 8 for test; validation is one of
    the training subjects (our choice). A group is a subject.

    Args:
        frames: length of a skeleton series (41 to 125 frames are recorded).
        samples: length of an inertial series (107 to 326 samples are recorded).
        validation_subject: subject of the validation split: 1, 3, 5 or 7.

    Raises:
        CmkdError: an option is out of range.
    """

    name = "utd_mhad"
    title = "UTD-MHAD: Kinect skeletons beside a wearable inertial sensor, 27 actions, by subject"
    rich = "skeleton"
    poor = "inertial"
    license = "none stated (freely available, as its paper says)"
    citation = """@inproceedings{chen2015utd, title={UTD-MHAD: A Multimodal Dataset for Human Action Recognition
  Utilizing a Depth Camera and a Wearable Inertial Sensor}, author={Chen, Chen and Jafari, Roozbeh and Kehtarnavaz,
  Nasser}, booktitle={ICIP}, year={2015}}"""
    sources = (PublishedFile("UTD-MHAD.zip", ADDRESS),)
    group = "a subject"
    unsound = (
        "The sensor is on the right wrist for the first 21 actions and on the right thigh for the other six, so its "
        "place tells these apart. Three people are left for train and one for validation: accuracies say much about "
        "these people."
    )

    def __init__(self, *, frames: int = 48, samples: int = 96, validation_subject: int = 7) -> None:
        self.at_least_one(frames=frames, samples=samples)
        if validation_subject not in TRAIN_SUBJECTS:
            raise CmkdError(f"validation_subject {validation_subject} of utd_mhad is unknown: use 1, 3, 5 or 7")
        self.lengths = {"skeleton": frames, "inertial": samples}
        self.validation_subject = validation_subject

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from ``UTD-MHAD.zip`` or a folder that has the subfolders ``Skeleton`` and ``Inertial``."""
        with self.opened(source, packed=True) as archive:
            found = [match for name in archive.sizes if (match := _FILE.fullmatch(name.rpartition("/")[2]))]
            actions = sorted(tuple(int(number) for number in match.groups()) for match in found)
            if not actions:
                raise CmkdError(f"{archive.place} holds no file Skeleton/a1_s1_t1_skeleton.mat: get it from {ADDRESS}")
            for action, subject, trial in actions:
                if action > len(ACTIONS) or subject not in TRAIN_SUBJECTS + TEST_SUBJECTS:
                    raise archive.error(f"a{action}_s{subject}_t{trial}", "is an unknown action or subject")
            readers = {view: partial(self._read, archive, view) for view in VIEWS}
            return self.write(
                destination,
                Listing(
                    [f"action{a:02d}-subject{s}-trial{t}" for a, s, t in actions],
                    [action - 1 for action, _, _ in actions],
                    [self._split(subject) for _, subject, _ in actions],
                    {"method": f"the paper's, by subject; validation: subject {self.validation_subject}"},
                    read_pairs(actions, readers),
                    [f"subject{subject}" for _, subject, _ in actions],
                ),
                [
                    Modality("skeleton", "series", (self.lengths["skeleton"], 3 * JOINTS), "float32"),
                    Modality("inertial", "series", (self.lengths["inertial"], AXES), "float32"),
                ],
                classes=ACTIONS,
            )

    def _split(self, subject: int) -> str:
        if subject in TEST_SUBJECTS:
            return "test"
        return "validation" if subject == self.validation_subject else "train"

    def _read(self, archive: Archive, view: str, pair: tuple[int, ...]) -> NDArray[np.float32]:
        folder, array = VIEWS[view]
        file = archive.ending(f"{folder}/a{pair[0]}_s{pair[1]}_t{pair[2]}_{view}.mat")
        with archive.decoding(file) as content:
            values = np.asarray(read_mat(content, array)[0], np.float64)
        if view == "skeleton" and values.shape[:2] == (JOINTS, 3):
            values = _centered(values)
        width = 3 * JOINTS if view == "skeleton" else AXES
        if values.ndim != 2 or values.shape[1] != width or len(values) < 2 or not np.isfinite(values).all():
            raise archive.error(file, f"has an array {array} of shape {values.shape}, which is not a recording")
        return stretched(values, self.lengths[view])


def _centered(joints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return joints ``(20, 3, frames)`` as ``(frames, 60)``, relative to the mean position of the hip center."""
    moved: NDArray[np.float64] = joints - joints[HIP_CENTER].mean(axis=-1)[None, :, None]
    return moved.transpose(2, 0, 1).reshape(joints.shape[2], -1)


def stretched(series: NDArray[np.float64], length: int) -> NDArray[np.float32]:
    """Stretch a series to another length by linear interpolation in time; the first and last steps stay the same.

    Args:
        series: series ``(time, channels)``.
        length: number of time steps of the result.

    Example:
        >>> stretched(np.array([[0.0], [2.0]]), 3).ravel().tolist()
        [0.0, 1.0, 2.0]
    """
    at = np.linspace(0, len(series) - 1, length)
    before = np.minimum(at.astype(int), len(series) - 2)
    part = (at - before)[:, None]
    between: NDArray[np.float64] = series[before] * (1 - part) + series[before + 1] * part
    return between.astype(np.float32)
