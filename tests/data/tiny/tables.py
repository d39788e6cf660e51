"""Tiny sources of features and of joint positions."""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy.io import savemat

from cmkd.datasets.mars import JOINTS, MOVEMENTS, PARTS, PEOPLE
from cmkd.datasets.multiple_features import VIEWS
from data.tiny.files import cells


def mars(folder: Path, generator: np.random.Generator) -> None:
    """Write 40 frames per movement, with the same gaps as the published files."""
    for person in PEOPLE:
        home = folder / "synced_data" / "wooutlier" / f"subject{person}"
        (home / "timesplit").mkdir(parents=True)
        parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS.values()}
        for movement in MOVEMENTS[: 9 if person == 4 else 10]:
            skeleton = generator.normal(0, 0.05, (40, 3 * JOINTS)) + np.linspace(0, movement, 3 * JOINTS)
            for part, piece in zip(PARTS.values(), np.split(skeleton, [24, 32]), strict=True):
                parts[part].append(piece)
            frames = np.repeat(np.arange(100, 140), generator.integers(1, 9, 40))
            radar = generator.normal(movement, 1.0, (8, len(frames)))
            radar[0] = frames
            with h5py.File(home / f"radar_data{movement}.mat", "w") as file:
                file["radar_data_cropped"] = radar
        for part in PARTS.values():
            if (person, part) != (1, "train"):
                columns = [f"Joint{joint}_{axis}" for axis in "XYZ" for joint in range(JOINTS)]
                table = pd.DataFrame(np.concatenate(parts[part]), columns=columns)
                table.to_csv(home / "timesplit" / f"kinect_data_{part}.csv", index=False)


def multiple_features(folder: Path, generator: np.random.Generator) -> None:
    """Write 60 numerals as tables with a header; one of the sixes has the moments of a nine."""
    labels = np.repeat(np.arange(10), 6)
    for short, width in VIEWS.values():
        values = (labels[:, None] + generator.integers(0, 3, (60, width))) % 7
        if short == "zer":
            values[6 * 9] = values[6 * 6]
        rows = [",".join(map(str, [*row, label])) for row, label in zip(values, labels, strict=True)]
        header = ",".join(map(str, range(width + 1)))
        (folder / f"mfeat-{short}.csv").write_text("\n".join([header, *rows]) + "\n")


def wikipedia(folder: Path, generator: np.random.Generator) -> None:
    """Write 120 rows, the last 40 of them test, two pictures twice."""
    labels = np.tile(np.arange(1, 11, dtype=np.uint8), 12)[:, None]
    text = generator.dirichlet(np.full(10, 0.3), 120) + np.eye(10)[labels[:, 0] - 1]
    image = generator.dirichlet(np.full(128, 0.3), 120)
    image[100], image[20] = image[10], image[0]  # a train picture again in test, and one twice in train
    text /= text.sum(1, keepdims=True)
    for name, rows in (("Wikipedia.mat", slice(None)), ("Wikipedia-test.mat", slice(80, None))):
        savemat(folder / name, {"X": cells(image[rows], text[rows]), "y": labels[rows]})


def utd_mhad(folder: Path, generator: np.random.Generator) -> None:
    """Write two trials of three actions by each of the eight subjects, of unlike lengths."""
    for name in ("Skeleton", "Inertial"):
        (folder / name).mkdir()
    for action, subject, trial in itertools.product((1, 2, 27), range(1, 9), (1, 2)):
        stem = f"a{action}_s{subject}_t{trial}"
        joints = generator.normal(action, 0.1, (20, 3, 40 + subject))
        savemat(folder / "Skeleton" / f"{stem}_skeleton.mat", {"d_skel": joints})
        motion = generator.normal(action, 0.1, (120 + subject, 6))
        savemat(folder / "Inertial" / f"{stem}_inertial.mat", {"d_iner": motion})
