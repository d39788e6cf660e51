"""SUN RGB-D: color and depth of indoor scenes from four cameras, with the kind of scene."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Source
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.frames import jpeg_bytes, picture, square
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://rgbd.cs.princeton.edu"
SCENES = (
    *("bathroom", "bedroom", "classroom", "computer_room", "conference_room", "corridor", "dining_area", "dining_room"),
    *("discussion_area", "furniture_store", "home_office", "kitchen", "lab", "lecture_theatre", "library"),
    *("living_room", "office", "rest_space", "study_space"),
)
"""The kinds of scene with more than 80 views, as the publishers classify them."""
CAMERAS = ("kv1", "kv2", "realsense", "xtion")
CHUNK = 64


@dataclass(frozen=True)
class _View:
    """One view: its folder in the archive, and the files of color and depth."""

    home: str
    scene: str
    image: str
    depth: str


class SunRgbd(DataSet):
    """Some 9,500 pairs of color (rich) and depth (poor) in 19 kinds of scene.

    ``image`` is an image ``(3, size, size)`` and ``depth`` one of meters ``(1, size, size)`` (the publishers' filled
    maps), the middle square of the view, on one grid. Where the source holds ``allsplit.mat``, its test views are test;
    validation is drawn from the rest (without it, test too), stratified by class.

    Layout unverified against the real files: ``SUNRGBD/kv1/.../VIEW/`` with ``image/*.jpg``, ``depth_bfx/*.png`` (16
    bits, rotated left by three, millimeters) and ``scene.txt``; and ``allsplit.mat`` with the cells ``alltest`` and
    ``alltrain`` of folders.

    Args:
        size: pixels along a view.

    Raises:
        CmkdError: the size is not positive.
    """

    name = "sun_rgbd"
    title = "SUN RGB-D: color beside depth of indoor scenes, kind of scene"
    rich = "image"
    poor = "depth"
    license = "none stated (research data of Princeton University)"
    citation = """@inproceedings{song2015sun, title={SUN RGB-D: A RGB-D Scene Understanding Benchmark Suite}, author={
  Song, Shuran and Lichtenberg, Samuel P. and Xiao, Jianxiong}, booktitle={IEEE Conference on Computer Vision and
  Pattern Recognition}, year={2015}}"""
    sources = (Source("SUNRGBD.zip", ADDRESS), Source("allsplit.mat", ADDRESS))
    mirror = True
    unsound = (
        "Which views show one room was not published for all cameras, so rooms may be in two splits; four cameras "
        "with different depth ranges tell something of the place they were used in."
    )

    def __init__(self, *, size: int = 64) -> None:
        if size < 1:
            raise CmkdError(f"size {size} of sun_rgbd must be at least 1")
        self.size = size

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack, in chunks.

        Args:
            source: the folder with ``SUNRGBD`` unpacked, and ``allsplit.mat`` if it is to be used.
            destination: folder of the pack to make.

        Raises:
            CmkdError: a file is missing or damaged.
        """
        with Archive(self.source_folder(source), address=ADDRESS) as archive:
            views = _views(archive)
            if not views:
                raise CmkdError(f"{source} holds no views with scene.txt, image and depth_bfx: get them from {ADDRESS}")
            held = _held_out(archive)
            labels = [SCENES.index(view.scene) for view in views]
            given = ["test" if view.home in held else "" for view in views] if held else None
            splits, record = assign_splits(labels, None, given)
            modalities = [
                Modality(self.rich, "image", (3, self.size, self.size), "uint8"),
                Modality(self.poor, "image", (1, self.size, self.size), "float32"),
            ]
            with self.writer(
                destination,
                classes=SCENES,
                modalities=modalities,
                split=record,
                co_registered=[(self.rich, self.poor)],
            ) as writer:
                for start in range(0, len(views), CHUNK):
                    part = views[start : start + CHUNK]
                    writer.add(
                        [view.home for view in part],
                        labels[start : start + CHUNK],
                        splits[start : start + CHUNK],
                        None,
                        {
                            self.rich: np.stack([picture(archive, view.image, self.size) for view in part]),
                            self.poor: np.stack([square(_depth(archive, view.depth), self.size) for view in part]),
                        },
                    )
        return Pack.open(destination)

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write six made-up views of four kinds of scene in the publishers' layout, and return the folder."""
        import imagecodecs
        from scipy.io import savemat

        generator = np.random.default_rng(0)
        test = []
        for number in range(24):
            label = number % 4
            home = folder / "SUNRGBD" / "kv1" / "NYUdata" / f"NYU{number:04d}"
            (home / "image").mkdir(parents=True)
            (home / "depth_bfx").mkdir()
            (home / "scene.txt").write_text(SCENES[label])
            values = generator.integers(40 * label, 40 * label + 60, (24, 32, 3), dtype=np.uint8)
            (home / "image" / f"NYU{number:04d}.jpg").write_bytes(jpeg_bytes(values))
            millimeters = (generator.uniform(1000, 1500, (24, 32)) + 500 * label).astype(np.uint16)
            rotated = (millimeters << 3) | (millimeters >> 13)
            (home / "depth_bfx" / f"NYU{number:04d}.png").write_bytes(imagecodecs.png_encode(rotated))
            test += [f"/n/fs/sun3d/data/SUNRGBD/kv1/NYUdata/{home.name}"] if number >= 16 else []
        cells = np.empty((1, len(test)), dtype=object)
        cells[0] = test
        savemat(folder / "allsplit.mat", {"alltest": cells, "alltrain": cells[:, :0]})
        return folder


def _views(archive: Archive) -> list[_View]:
    """Return the views of the known kinds of scene, in order of their folders."""
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
    """Return a folder from the camera's on, as it is named in the archive and in the list.

    Example:
        >>> _inside("/n/fs/sun3d/data/SUNRGBD/kv1/NYUdata/NYU0001")
        'kv1/NYUdata/NYU0001'
    """
    parts = home.strip("/").split("/")
    camera = next((k for k, part in enumerate(parts) if part in CAMERAS), 0)
    return "/".join(parts[camera:])


def _held_out(archive: Archive) -> set[str]:
    from scipy.io import loadmat

    lists = [name for name in archive.sizes if name.rsplit("/", 1)[-1] == "allsplit.mat"]
    if not lists:
        return set()
    content: Any = io.BytesIO(archive.read(lists[0]))  # the stubs of scipy know paths alone
    try:
        cells = loadmat(content, variable_names=["alltest"])["alltest"].ravel()
        return {_inside(str(np.asarray(cell).ravel()[0])) for cell in cells}
    except Exception as error:  # scipy raises whatever it meets in damaged bytes
        raise CmkdError(
            f"{lists[0]} in {archive.place} is truncated or damaged: get it again from {ADDRESS}"
        ) from error


def _depth(archive: Archive, name: str) -> NDArray[np.float32]:
    """Return meters ``(1, height, width)``."""
    import imagecodecs

    try:
        rotated = np.asarray(imagecodecs.png_decode(archive.read(name)))
    except CmkdError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged bytes
        raise CmkdError(f"{name} in {archive.place} is damaged: get it again from {ADDRESS}") from error
    if rotated.dtype != np.uint16 or rotated.ndim != 2:
        raise CmkdError(f"{name} in {archive.place} is no gray image of 16 bits: get it again from {ADDRESS}")
    meters: NDArray[np.float32] = (((rotated >> 3) | (rotated << 13)).astype(np.float32) / 1000.0)[None]
    return meters
