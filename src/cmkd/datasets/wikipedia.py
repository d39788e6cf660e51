"""Wikipedia's featured articles: the text of a section and its picture, both as published features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet, Listing
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import published_files, verify_present
from cmkd.datasets.formats.matlab import read_mat
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://github.com/ChuanbinZhang/Multi-view-datasets/tree/03ead31"
CLASSES = ("art", "biology", "geography", "history", "literature", "media", "music", "royalty", "sport", "warfare")
WIDTHS = {"image": 128, "text": 10}
"""View -> its length, in the order of views in the files."""
DIGITS = 8
"""Number of decimals to which equal rows agree."""
SPLIT_SEED = 0
_Views = dict[str, NDArray[np.float64]]


class Wikipedia(DataSet):
    """Ten subjects of Wikipedia's featured articles: text (rich) and the picture beside it (poor).

    ``text`` is a vector of 10, the topic proportions of a latent Dirichlet allocation model; ``image`` is a vector of
    128, the histogram of visual words of SIFT descriptors. Both are square roots of the published proportions, which
    sum to one: this spreads out small values (the Hellinger map).

    Test is the classic split of 693. The file of all 2,866 rows also holds the test rows, which are removed from it.
    Train rows whose picture is also in a test or validation row are left out (ten pictures are published twice).
    Validation is a stratified fifth of the rest.

    Args:
        check: whether the files must have the published checksums.
    """

    name = "wikipedia"
    title = "Featured articles of Wikipedia: topics of the text beside visual words of the picture"
    rich = "text"
    poor = "image"
    license = "none stated (research data of UC San Diego)"
    citation = """@inproceedings{rasiwasia2010new, title={A New Approach to Cross-Modal Multimedia Retrieval},
  author={Rasiwasia, Nikhil and Costa Pereira, Jose and Coviello, Emanuele and Doyle, Gabriel and Lanckriet, Gert R. G.
  and Levy, Roger and Vasconcelos, Nuno}, booktitle={ACM International Conference on Multimedia}, year={2010}}"""
    sources = published_files(
        "https://raw.githubusercontent.com/ChuanbinZhang/Multi-view-datasets/03ead31",
        {
            "Wikipedia.mat": "6eed8527704611dff921243d86dbec5621312b8c6636086ae3677508b5d3cb03",
            "Wikipedia-test.mat": "c31d313a4e0e2ad699446782ac492119bc57e8b23ce620e4326cafb560870552",
        },
    )
    unsound = (
        "Sections of one article may be in train and in test: the articles of the rows are not published. It is not "
        "stated whether the topics and the visual words were fitted on train rows only."
    )

    def __init__(self, *, check: bool = True) -> None:
        self.check = check

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the folder with the two files, or a zip of it."""
        place = self.source_folder(source)
        if self.check:
            verify_present(place, self.sources)
        with Archive(place, address=ADDRESS) as archive:
            every, labels = _read(archive, "Wikipedia.mat")
            test, test_labels = _read(archive, "Wikipedia-test.mat")
        rest = _without(every, test)
        if len(labels) - len(rest) < len(test_labels):
            raise CmkdError(f"the test rows are not all in Wikipedia.mat in {place}: get both files from {ADDRESS}")
        train, validation = _divide(every["image"], labels, rest, test["image"])
        splits = ["train"] * len(train) + ["validation"] * len(validation) + ["test"] * len(test_labels)
        kept = np.concatenate([train, validation])
        return self.write(
            destination,
            Listing(
                [f"row{row:04d}" for row in kept] + [f"test{row:04d}" for row in range(len(test_labels))],
                np.concatenate([labels[kept], test_labels]),
                splits,
                {"method": "test: the classic 693; validation: a stratified fifth of the rest", "seed": SPLIT_SEED},
                [{n: np.sqrt(np.concatenate([every[n][kept], test[n]])).astype(np.float32) for n in WIDTHS}],
            ),
            [Modality(name, "vector", (WIDTHS[name],), "float32") for name in (self.rich, self.poor)],
            classes=CLASSES,
        )


def _read(archive: Archive, name: str) -> tuple[_Views, NDArray[np.int64]]:
    """Return view -> values, and the labels, counted from 0."""
    file = archive.ending(name)
    with archive.decoding(file) as content:
        cells, labels = read_mat(content, "X", "y")
        labels = labels.ravel().astype(np.int64) - 1
        views = {view: np.asarray(cell, np.float64) for view, cell in zip(WIDTHS, cells.ravel(), strict=True)}
    for view, values in views.items():
        shape = (len(labels), WIDTHS[view])
        if values.shape != shape or not (values >= 0).all():
            raise archive.error(file, f"has a view {view} of shape {values.shape}, expected {shape}, not negative")
    if not np.isin(labels, np.arange(len(CLASSES))).all():
        raise archive.error(file, f"has labels outside 1 to {len(CLASSES)}")
    return views, labels


def _keys(values: NDArray[Any]) -> list[bytes]:
    return [row.tobytes() for row in values.round(DIGITS) + 0.0]  # + 0.0 turns negative zeros into zeros


def _without(every: _Views, test: _Views) -> NDArray[np.int64]:
    """Return the rows of `every` that are not rows of `test`."""
    held = set(_keys(np.concatenate([test[name] for name in WIDTHS], 1)))
    keys = _keys(np.concatenate([every[name] for name in WIDTHS], 1))
    return np.array([row for row, key in enumerate(keys) if key not in held], dtype=np.int64)


def _divide(
    images: NDArray[np.float64], labels: NDArray[np.int64], rest: NDArray[np.int64], test: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide the rows `rest` into train and validation rows, so that no picture is in two splits."""
    from sklearn.model_selection import train_test_split

    train, validation = train_test_split(rest, test_size=0.2, stratify=labels[rest], random_state=SPLIT_SEED)
    keys, held = _keys(images), set(_keys(test))
    validation = np.sort([row for row in validation if keys[row] not in held])
    held |= {keys[row] for row in validation}
    return np.sort([row for row in train if keys[row] not in held]), validation
