"""Map a scene of any size: a student classifies overlapping tiles of a GeoTIFF, in strips, in bounded memory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.gdal import ValueTags, measured
from cmkd.data.manifest.sample import fitted
from cmkd.deploy.inputs import stated_of
from cmkd.deploy.student import Student
from cmkd.errors import CmkdError, needs_extra
from cmkd.io import atomic
from cmkd.progress import shown
from cmkd.types import Modality

if TYPE_CHECKING:
    from rasterio import DatasetReader
    from rasterio.control import GroundControlPoint
    from rasterio.io import DatasetWriter
    from rasterio.rpc import RPC

    Maps: TypeAlias = tuple[DatasetWriter, DatasetWriter]

LEAST_VALID = 0.5
"""Smallest fraction of valid values in a tile that is classified."""
BLOCK = 128
"""Side of the blocks of a map, and number of its rows kept in memory, so that each block is written only once."""
STRIP_BYTES = 2**26
"""Largest number of bytes of the scene that are read at a time, unless one row of tiles has more."""


@dataclass(frozen=True)
class SceneMap:
    """Result of `predict_scene`.

    Args:
        pixels: number of pixels of the map.
        predicted: number of pixels with a prediction.
        probabilities: path of the file with the probabilities.
    """

    pixels: int
    predicted: int
    probabilities: Path


@dataclass(frozen=True)
class _Grid:
    """Positions of the tiles: each is centered on its pixel of the map, but moved inside the scene at the edges."""

    height: int  # height and width of the scene
    width: int
    tile: int
    stride: int

    @property
    def shape(self) -> tuple[int, int]:
        return -(-self.height // self.stride), -(-self.width // self.stride)

    def start(self, position: int, length: int) -> int:
        """Return the first scene row (or column) of the tile that belongs to a map row (or column)."""
        return min(max(position * self.stride + (self.stride - self.tile) // 2, 0), length - self.tile)


def predict_scene(
    student: Student, source: Path, out: Path, *, tile: int, stride: int, batch_size: int = 256
) -> SceneMap:
    """Classify the tiles of a scene, and write a map with one pixel per stride and the same georeference.

    Each tile is centered on its pixel of the map; at the edges it is moved inside the scene. A tile gets no prediction
    if less than half of its values are valid (not nodata, masked, NaN or infinite); in other tiles, invalid values are
    filled with the modality's mean, as in training. One half is this program's choice, as in resizing. Scale and offset
    stated in the scene are applied, and ``manifest.yaml`` applies as for single files. The map starts where the scene
    starts; if the stride does not divide the scene's size, the last row and column extend beyond the scene. Memory
    grows with the width of the scene and the number of classes.

    Args:
        student: a student of images with the bands and the dtype of the scene.
        source: a raster that rasterio can read.
        out: map of the classes, as positions in the student's `classes`: a GeoTIFF, uint8 or uint16, whose largest
            value is nodata. Beside it, ``NAME_probabilities.tif`` has a float32 band for each class; nodata is NaN. The
            descriptions of the bands and the tag ``classes`` name the classes.
        tile: side of the tiles in pixels of the scene; tiles are resized if this is not the student's size.
        stride: pixels of the scene per pixel of the map.
        batch_size: number of tiles computed at a time.

    Raises:
        CmkdError: if the scene cannot be read, does not fit the student, or is smaller than a tile; if
            ``manifest.yaml`` states another unit or kind; or if rasterio is missing.
    """
    with needs_extra("geo", "mapping a scene"):
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise CmkdError(f"a map is a GeoTIFF: '{out}' must end in .tif")
    second = out.with_name(f"{out.stem}_probabilities{out.suffix}")
    if source.resolve() in (out.resolve(), second.resolve()):
        raise CmkdError(f"the map would overwrite the scene {source}: give another --out")
    said = stated_of(source.parent, student.modality)
    if said is not None and said.nodata is not None:
        student = replace(student, modality=replace(student.modality, file_nodata=said.nodata))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # such a scene gives a map without georeference
            with rasterio.open(source) as scene:
                _check(student, source, scene, tile, stride)
                grid = _Grid(scene.height, scene.width, tile, stride)
                with rasterio.Env(GDAL_CACHEMAX=_cache(scene)), _maps(student, scene, grid, out, second) as maps:
                    predicted = _fill(student, scene, grid, maps, batch_size)
                return SceneMap(grid.shape[0] * grid.shape[1], predicted, second)
    except RasterioError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:100]  # GDAL's own message
        raise CmkdError(f"cannot read the scene {source} or write its map ({reason})") from error


def _check(student: Student, source: Path, scene: DatasetReader, tile: int, stride: int) -> None:
    modality = student.modality
    if modality.kind != "image":
        raise CmkdError(f"the student reads {modality.kind} ('{modality.name}'): only images can be mapped")
    if min(tile, stride) < 1 or tile > min(scene.height, scene.width):
        size = f"{scene.height} x {scene.width}"
        raise CmkdError(f"--tile is {tile} and --stride {stride}: give at least 1, and a tile inside {source} ({size})")
    if any(color.name == "palette" for color in scene.colorinterp):  # in training, the palette's colors are read
        shade = "gray" if modality.channels == 1 else "rgb"
        raise CmkdError(
            f"{source} holds indices into a palette: expand it, as in gdal_translate -expand {shade} IN OUT"
        )
    fitted(modality, np.empty((scene.count, 1, 1), _dtype(scene)), source)
    about = scene.tags(ns="IMAGE_STRUCTURE")
    bits = {scene.tags(band, ns="IMAGE_STRUCTURE").get("NBITS") for band in scene.indexes} - {None}
    odd = "with white as 0" if about.get("MINISWHITE") == "YES" else f"of {bits.pop()} bits a value" if bits else ""
    if odd:  # in training, the readers invert such values and scale them to 8 bits
        raise CmkdError(f"{source} is a picture {odd}: save it as black at 0, in whole bytes, or predict cut-out files")


def _dtype(scene: DatasetReader) -> np.dtype[Any]:
    if _scaled(scene):
        return np.dtype(np.float32)
    found = np.result_type(*scene.dtypes)
    return np.dtype(np.float32) if found == np.float64 else found  # as in training


def _scaled(scene: DatasetReader) -> bool:
    return any(scale != 1 for scale in scene.scales) or any(offset != 0 for offset in scene.offsets)


def _cache(scene: DatasetReader) -> int:
    """Return the bytes of GDAL's cache that hold two rows of the scene's blocks, so that each is decoded only once."""
    rows = max(height for height, _ in scene.block_shapes)
    sample = sum(np.dtype(name).itemsize for name in scene.dtypes)
    return int(max(64 * 2**20, 2 * (rows + BLOCK) * scene.width * sample))


@contextmanager
def _maps(student: Student, scene: DatasetReader, grid: _Grid, out: Path, second: Path) -> Iterator[Maps]:
    """Yield the two maps, open for writing; both appear when the block succeeds, the classes last."""
    import rasterio

    count, (height, width) = len(student.classes), grid.shape
    dtype, nodata = ("uint8", 255) if count <= 255 else ("uint16", 65535)
    if scene.gcps[0]:
        georeference = {"gcps": _ground_control(scene, grid.stride), "crs": scene.gcps[1]}
    elif scene.rpcs and scene.transform.is_identity:
        georeference = {"rpcs": _rational_polynomials(scene.rpcs, grid.stride)}
    else:
        a, b, c, d, e, f = scene.transform[:6]
        scaled = rasterio.Affine(a * grid.stride, b * grid.stride, c, d * grid.stride, e * grid.stride, f)
        georeference = {"transform": scaled, "crs": scene.crs}
    profile = {
        **{"driver": "GTiff", "height": height, "width": width, "bigtiff": "IF_SAFER", "interleave": "band"},
        **{"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"},
        **georeference,
    }
    with ExitStack() as files:
        paths = files.enter_context(atomic(out)), files.enter_context(atomic(second))
        with (
            rasterio.open(paths[0], "w", count=1, dtype=dtype, nodata=nodata, **profile) as classes,
            rasterio.open(paths[1], "w", count=count, dtype="float32", nodata=np.nan, **profile) as probabilities,
        ):
            classes.set_band_description(1, "class")
            for made in (classes, probabilities):
                made.update_tags(classes=json.dumps(student.classes), stride=grid.stride, tile=grid.tile)
            for band, name in enumerate(student.classes, start=1):
                probabilities.set_band_description(band, name)
            yield classes, probabilities


def _ground_control(scene: DatasetReader, stride: int) -> list[GroundControlPoint]:
    from rasterio.control import GroundControlPoint

    return [GroundControlPoint(p.row / stride, p.col / stride, p.x, p.y, p.z, p.id, p.info) for p in scene.gcps[0]]


def _rational_polynomials(found: RPC, stride: int) -> RPC:
    """Return the RPCs of the map; their lines and samples count from the center of the first pixel."""
    from rasterio.rpc import RPC

    line, sample = ((offset + 0.5) / stride - 0.5 for offset in (found.line_off, found.samp_off))
    scales = {"line_scale": found.line_scale / stride, "samp_scale": found.samp_scale / stride}
    return RPC(**found.to_dict() | {"line_off": line, "samp_off": sample} | scales)


def _fill(student: Student, scene: DatasetReader, grid: _Grid, maps: Maps, batch_size: int) -> int:
    """Write both maps, a row of blocks at a time, and return the number of predicted pixels."""
    from rasterio.windows import Window

    classes, probabilities = maps
    (height, width), predicted = grid.shape, 0
    high = STRIP_BYTES // (grid.width * scene.count * _dtype(scene).itemsize)
    each = max(1, min(batch_size // width, 1 + (high - grid.tile) // grid.stride))  # map rows read at a time
    with shown("mapping", "rows") as progress:
        for top in range(0, height, BLOCK):
            rows = range(top, min(top + BLOCK, height))
            found = np.full((len(student.classes), len(rows), width), np.nan, np.float32)
            for first in range(0, len(rows), each):
                part = rows[first : first + each]
                _strip(student, scene, grid, part, found[:, first : first + each], batch_size)
                progress(part.stop, height)
            there = np.isfinite(found).all(axis=0)
            best = np.where(there, np.where(there, found, 0).argmax(axis=0), classes.nodata)
            window = Window(0, top, width, len(rows))
            classes.write(best.astype(classes.dtypes[0]), 1, window=window)
            probabilities.write(found, window=window)
            predicted += int(there.sum())
    return predicted


def _strip(
    student: Student,
    scene: DatasetReader,
    grid: _Grid,
    rows: range,
    found: NDArray[np.float32],
    batch_size: int,
) -> None:
    """Fill in the probabilities ``(classes, rows, columns)`` of some rows of the map."""
    from rasterio.windows import Window

    tops = [grid.start(row, grid.height) for row in rows]
    lefts = [grid.start(column, grid.width) for column in range(grid.shape[1])]
    window = Window(0, tops[0], grid.width, tops[-1] + grid.tile - tops[0])
    values = _values(student.modality, scene, window)
    valid = ~np.ma.getmaskarray(values)
    places = [
        (k, column, top - tops[0], left)
        for k, top in enumerate(tops)
        for column, left in enumerate(lefts)
        if valid[:, top - tops[0] : top - tops[0] + grid.tile, left : left + grid.tile].mean() >= LEAST_VALID
    ]
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        tiles = (values[:, top : top + grid.tile, left : left + grid.tile] for _, _, top, left in batch)
        fit = [student.modality.filled(fitted(student.modality, tile, "the scene")) for tile in tiles]
        probabilities = student.probabilities(np.stack(fit))
        k, column = np.array([place[:2] for place in batch]).T
        found[:, k, column] = probabilities.T


def _values(modality: Modality, scene: DatasetReader, window: object) -> NDArray[Any]:
    """Return the values of a window as they are read in training, masked where they are invalid."""
    from rasterio.enums import MaskFlags

    tags = (
        ValueTags(None, tuple(enumerate(scene.scales)), tuple(enumerate(scene.offsets)))
        if _scaled(scene)
        else ValueTags()
    )
    stated: Any = modality.file_nodata
    flags = {flag for band in scene.mask_flag_enums for flag in band}
    # GDAL takes the fourth of four bands for alpha, but it may be near infrared, which is dark over water
    alpha = MaskFlags.alpha in flags
    # a stated nodata value replaces the tag's, not a mask inside or beside the file
    if not alpha and (stated is None or MaskFlags.per_dataset in flags):
        read = scene.read(window=window, masked=True)
        plain, masked = np.ma.getdata(read), np.ma.getmaskarray(read)
    else:
        plain = scene.read(window=window)
        masked = np.zeros(plain.shape, bool)
    found = measured(plain, tags, stated).astype(_dtype(scene), copy=False)
    masked = masked | np.ma.getmaskarray(modality.masked(found))
    if found.dtype.kind == "f":
        masked |= np.isinf(np.ma.getdata(found))
    return np.ma.MaskedArray(np.ma.getdata(found), masked)
