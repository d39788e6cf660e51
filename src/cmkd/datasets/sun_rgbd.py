"""SUN RGB-D: color and depth of indoor scenes from four cameras by kind of scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Listing, read_pairs
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.matlab import read_mat
from cmkd.datasets.formats.pictures import rgb, square
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://rgbd.cs.princeton.edu"
SCENES = (
    *("bathroom", "bedroom", "classroom", "computer_room", "conference_room", "corridor", "dining_area", "dining_room"),
    *("discussion_area", "furniture_store", "home_office", "kitchen", "lab", "lecture_theatre", "library"),
    *("living_room", "office", "rest_space", "study_space"),
)
"""Classes: the kinds of scene with more than 80 views, as in the publishers' classification task."""
CAMERAS = ("kv1", "kv2", "realsense", "xtion")


@dataclass(frozen=True)
class _View:
    """One view: folder, kind of scene, and files of color and depth."""

    home: str
    scene: str
    image: str
    depth: str


class SunRgbd(DataSet):
    """About 9,500 pairs of color (rich) and depth (poor) in 19 kinds of scene.

    ``image`` is an image ``(3, size, size)``; ``depth`` is an image ``(1, size, size)`` in meters, from the publishers'
    filled maps. Both show the middle square of the view on one grid. If the source holds ``allsplit.mat``, its test
    views are the test split; the other splits are drawn from the rest, stratified by class.

    Layout (tested on synthetic files only): ``SUNRGBD/kv1/.../VIEW/`` with ``image/*.jpg``, ``depth_bfx/*.png`` (16-bit
    millimeters, bits rotated left by three) and ``scene.txt``; and ``allsplit.mat`` with the cell arrays ``alltest``
    and ``alltrain`` of folder names.

    Args:
        size: height and width of a view, pixels.
    """

    name = "sun_rgbd"
    title = "SUN RGB-D: color beside depth of indoor scenes, kind of scene"
    rich = "image"
    poor = "depth"
    license = "none stated (research data of Princeton University)"
    citation = """@inproceedings{song2015sun, title={SUN RGB-D: A RGB-D Scene Understanding Benchmark Suite}, author={
  Song, Shuran and Lichtenberg, Samuel P. and Xiao, Jianxiong}, booktitle={IEEE Conference on Computer Vision and
  Pattern Recognition}, year={2015}}"""
    sources = (PublishedFile("SUNRGBD.zip", ADDRESS), PublishedFile("allsplit.mat", ADDRESS))
    mirror = True
    unsound = (
        "Which views show one room was not published for all cameras, so a room may be in two splits. The four cameras "
        "have different depth ranges, which tell something about the place where each was used."
    )

    def __init__(self, *, size: int = 64) -> None:
        self.at_least_one(size=size)
        self.size = size

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the folder with ``SUNRGBD`` unpacked and, optionally, ``allsplit.mat``."""
        with self.opened(source) as archive:
            views = _views(archive)
            if not views:
                raise CmkdError(f"{source} holds no views with scene.txt, image and depth_bfx: get them from {ADDRESS}")
            held = _held_out(archive)
            labels = [SCENES.index(view.scene) for view in views]
            given = ["test" if view.home in held else "" for view in views] if held else None
            splits, record = assign_splits(labels, None, given)
            values = read_pairs(
                views,
                {
                    self.rich: lambda view: square(rgb(archive, view.image), self.size),
                    self.poor: lambda view: square(_depth(archive, view.depth), self.size),
                },
            )
            return self.write(
                destination,
                Listing([view.home for view in views], labels, splits, record, values),
                [
                    Modality(self.rich, "image", (3, self.size, self.size), "uint8"),
                    Modality(self.poor, "image", (1, self.size, self.size), "float32"),
                ],
                classes=SCENES,
                co_registered=True,
            )


def _views(archive: Archive) -> list[_View]:
    """Return the views of the known kinds of scene, sorted by folder."""
    images: dict[str, str] = {}
    depths: dict[str, str] = {}
    for name in archive.sizes:
        parts = name.rsplit("/", 2)
        if len(parts) == 3 and parts[1] in ("image", "depth_bfx"):
            (images if parts[1] == "image" else depths)[parts[0]] = name
    found = []
    for name in archive.sizes:
        home = name.removesuffix("/scene.txt")
        if home != name and home in images and home in depths:
            scene = archive.read(name).decode("utf-8", "replace").strip()
            if scene in SCENES:
                found.append(_View(_inside(home), scene, images[home], depths[home]))
    return found


def _inside(home: str) -> str:
    """Return the path of a folder from the camera's name on, which is the same in the archive and in the list.

    Example:
        >>> _inside("/n/fs/sun3d/data/SUNRGBD/kv1/NYUdata/NYU0001")
        'kv1/NYUdata/NYU0001'
    """
    parts = home.strip("/").split("/")
    camera = next((k for k, part in enumerate(parts) if part in CAMERAS), 0)
    return "/".join(parts[camera:])


def _held_out(archive: Archive) -> set[str]:
    lists = [name for name in archive.sizes if name.rsplit("/", 1)[-1] == "allsplit.mat"]
    if not lists:
        return set()
    with archive.decoding(lists[0]) as file:
        return {_inside(str(np.asarray(cell).ravel()[0])) for cell in read_mat(file, "alltest")[0].ravel()}


def _depth(archive: Archive, name: str) -> NDArray[np.float32]:
    """Return the depth ``(1, height, width)`` in meters."""
    from PIL import Image

    with archive.decoding(name) as file, Image.open(file, formats=("PNG",)) as image:
        if image.mode != "I;16":
            raise archive.error(name, "is not a gray image of 16 bits")
        rotated = np.asarray(image).astype(np.uint16)
    meters: NDArray[np.float32] = (((rotated >> 3) | (rotated << 13)).astype(np.float32) / 1000.0)[None]
    return meters
