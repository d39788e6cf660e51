"""CIFAR-100 (Krizhevsky 2009): small photographs of a hundred kinds of thing beside a degraded view of each."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np

from cmkd.datasets.base import Source
from cmkd.datasets.cifar10 import add_member
from cmkd.datasets.degradations import Name
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import packed_or_folder
from cmkd.datasets.formats.records import Records
from cmkd.datasets.transformed import Images, TransformedImages, tiny_images

ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class Cifar100(TransformedImages):
    """60,000 photographs of a hundred kinds of thing, 32 x 32 pixels, and a degraded view of each.

    Unverified: the binary version (``cifar-100-binary.tar.gz``, packed or not) was met in made-up files alone. A record
    is a byte of the coarse label, which is not used, a byte of the fine label, and 3 x 32 x 32 pixels; the fine labels
    are the names in alphabetical order.

    Splits: the published test; validation is a tenth of the published train images by a hash of their number. About
    10 % of the test images have a near-duplicate in train (Barz and Denzler 2020), which is known and left as
    published.

    Args:
        degradation: see `cmkd.datasets.degradations`.
        severity: of the degradation, 0 to 1. How much the default costs was not measured.
        seed: of its random numbers.
        train_pairs: keep so many train pairs, as many of each class; all unless given.
        check: whether the published file must have its checksum.
    """

    name = "cifar100"
    mirror = True
    title = "Photographs of a hundred kinds of thing, 32 x 32, beside a degraded view"
    license = "none stated by its publisher"
    citation = """@techreport{krizhevsky2009learning, title={Learning Multiple Layers of Features from Tiny Images},
  author={Krizhevsky, Alex}, institution={University of Toronto}, year={2009}}"""
    classes = tuple(NAMES.split())
    shape = (3, 32, 32)
    unsound = (
        "About 10 % of the test images have a near-duplicate in train that was edited or taken again (Barz and Denzler "
        "2020); they are left as published."
    )
    sources = (
        Source(
            "cifar-100-binary.tar.gz",
            ADDRESS,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    )
    tiny: ClassVar[Mapping[str, object]] = {"check": False}

    def __init__(
        self,
        *,
        degradation: Name = "low_light",
        severity: float = 0.7,
        seed: int = 0,
        train_pairs: int | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(degradation=degradation, severity=severity, seed=seed, train_pairs=train_pairs, check=check)

    @contextmanager
    def published(self, source: Path) -> Iterator[Sequence[Images]]:
        """Open the binary files."""
        with Archive(packed_or_folder(source, self.sources[0].name), address=ADDRESS) as archive:
            parts = []
            for split in ("train", "test"):
                records = Records(archive, [archive.ending(f"{split}.bin")], 2, self.shape)
                labels = records.labels(1, len(self.classes))
                parts.append(
                    Images(split, [f"{split}{number:05d}" for number in range(len(labels))], labels, records.read)
                )
            yield parts

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write 400 train and 100 test records of made-up bars in the publisher's layout, and return the folder."""
        folder.mkdir(parents=True)
        generator = np.random.default_rng(0)
        with tarfile.open(folder / Cifar100.sources[0].name, "w:gz", compresslevel=1) as archive:
            for split, count in (("train", 400), ("test", 100)):
                labels = np.arange(count, dtype=np.uint8) % 100
                images = tiny_images(generator, labels, Cifar100.shape).reshape(count, -1)
                content = np.concatenate([labels[:, None] // 5, labels[:, None], images], axis=1).tobytes()
                add_member(archive, f"cifar-100-binary/{split}.bin", content)
        return folder
