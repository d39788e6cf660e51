"""NYU Depth v2: color and depth of indoor scenes by kind of room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Listing, read_pairs
from cmkd.datasets.formats.archive import damage
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.matlab import open_hdf5, read_mat
from cmkd.datasets.formats.pictures import square
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html"
LABELED, SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
ROOMS = (
    *("bathroom", "bedroom", "bookstore", "classroom", "dining_room", "home_office", "kitchen", "living_room"),
    "office",
    "other",
)
"""Classes: the nine most frequent kinds of room, as is usual, and one class for all others."""


class NyuDepth(DataSet):
    """1,449 pairs of color (rich) and Kinect depth (poor) in ten kinds of room.

    ``image`` is an image ``(3, size, size)``; ``depth`` is an image ``(1, size, size)`` in meters, with holes filled by
    the publishers. Both show the middle square of the view on one grid. Test is the publishers' split of 654; train
    pairs of a room that is also in test are left out. Validation is drawn from the rest, whole rooms at a time.

    Layout (tested on synthetic files only): ``nyu_depth_v2_labeled.mat`` (MATLAB 7.3) with ``images`` ``(n, 3, width,
    height)``, ``depths`` ``(n, width, height)``, ``sceneTypes`` and ``scenes`` as references to texts; and
    ``splits.mat`` with ``trainNdxs`` and ``testNdxs``, counted from 1.

    Args:
        size: height and width of a view, pixels.
    """

    name = "nyu_depth"
    title = "NYU Depth v2: color beside Kinect depth of indoor scenes, kind of room, by room"
    rich = "image"
    poor = "depth"
    license = "none stated (research data of New York University)"
    citation = """@inproceedings{silberman2012indoor, title={Indoor Segmentation and Support Inference from RGBD
  Images}, author={Silberman, Nathan and Hoiem, Derek and Kohli, Pushmeet and Fergus, Rob}, booktitle={European
  Conference on Computer Vision}, year={2012}}"""
    sources = (PublishedFile(LABELED, ADDRESS), PublishedFile(SPLITS, ADDRESS))
    mirror = True
    group = "a room"
    unsound = "Some kinds of room have only a few dozen views of a handful of rooms, so single rooms move the accuracy."

    def __init__(self, *, size: int = 64) -> None:
        self.at_least_one(size=size)
        self.size = size

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the folder with the two files."""
        folder = self.source_folder(source)
        with damage(str(folder / SPLITS), ADDRESS, (Exception,)):
            held = read_mat(folder / SPLITS, "testNdxs")[0].ravel().astype(np.int64) - 1
        kinds, scenes = _rooms(folder / LABELED)
        wrong = held[(held < 0) | (held >= len(kinds))]
        if len(wrong):
            raise CmkdError(f"{folder / SPLITS} names view {wrong[0] + 1} of {len(kinds)}; get it again from {ADDRESS}")
        labels = np.array([ROOMS.index(kind) if kind in ROOMS else len(ROOMS) - 1 for kind in kinds])
        rows, splits, record = _divide(labels, scenes, held)
        with open_hdf5(folder / LABELED) as file:

            def view(name: str, row: int) -> NDArray[Any]:
                with damage(str(folder / LABELED), ADDRESS, (Exception,)):
                    return np.asarray(file[name][row])

            values = read_pairs(
                rows,
                {
                    self.rich: lambda row: square(np.swapaxes(view("images", row), 1, 2), self.size),
                    self.poor: lambda row: square(view("depths", row).T[None].astype(np.float32), self.size),
                },
            )
            ids, groups = [f"view{row + 1:04d}" for row in rows], [scenes[row] for row in rows]
            return self.write(
                destination,
                Listing(ids, labels[rows], splits, record, values, groups),
                [
                    Modality(self.rich, "image", (3, self.size, self.size), "uint8"),
                    Modality(self.poor, "image", (1, self.size, self.size), "float32"),
                ],
                classes=ROOMS,
                co_registered=True,
            )


def _rooms(path: Path) -> tuple[list[str], list[str]]:
    """Return the kind and the name of the room of each view, after a check of the shapes of the file's arrays."""
    with damage(str(path), ADDRESS, (Exception,)), open_hdf5(path) as file:
        kinds, scenes = _texts(file, "sceneTypes"), _texts(file, "scenes")
        images, depths, count = file["images"].shape, file["depths"].shape, len(kinds)
    if len(scenes) != count or images[:2] != (count, 3) or len(images) != 4 or depths != (count, *images[2:]):
        raise CmkdError(
            f"{path} holds {len(scenes)} scenes, images {images} and depths {depths} of {count} views, expected n, "
            f"(n, 3, width, height) and (n, width, height): get it from {ADDRESS}"
        )
    return kinds, scenes


def _texts(file: Any, name: str) -> list[str]:  # noqa: ANN401  # h5py has no types
    def letters(reference: object) -> Iterator[str]:
        return (chr(code) for code in np.asarray(file[reference]).ravel())

    return ["".join(letters(reference)) for reference in np.asarray(file[name]).ravel()]


def _divide(
    labels: NDArray[np.int64], scenes: list[str], held: NDArray[np.int64]
) -> tuple[list[int], list[str], dict[str, Any]]:
    """Return the rows that are kept, their splits, and the record of how the split was made."""
    test = np.zeros(len(labels), dtype=bool)
    test[held] = True
    rooms = {scenes[row] for row in held}
    rows = np.flatnonzero(test | np.array([scene not in rooms for scene in scenes]))
    given = ["test" if test[row] else "" for row in rows]
    splits, record = assign_splits(labels[rows], [scenes[row] for row in rows], given, fractions=(0.8, 0.2, 0.2))
    record["method"] = f"test: the publishers'; {record['method']}, by room"
    return rows.tolist(), splits, record
