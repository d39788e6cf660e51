"""CIFAR-100 (Krizhevsky 2009): small photographs of a hundred kinds of thing beside a degraded view of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from cmkd.datasets.cifar10 import CifarImages
from cmkd.datasets.formats.fetch import published_files

NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class Cifar100(CifarImages):
    """60,000 photographs of a hundred kinds of thing, 32 x 32 pixels, and a degraded view of each.

    Reads the official binary archive (``cifar-100-binary.tar.gz``, packed or not; tested on synthetic files only). A
    record holds one byte of coarse label, which is not used, one byte of fine label, and 3 x 32 x 32 pixels; fine
    labels are positions in the alphabetical list of names.

    Splits: test is the published one; validation is a tenth of the published train images by a hash of their number.

    The default degradation is low_light of severity 0.7; its effect was not measured.
    """

    name = "cifar100"
    title = "Photographs of a hundred kinds of thing, 32 x 32, beside a degraded view"
    default = ("low_light", 0.7)
    classes = tuple(NAMES.split())
    head = 2
    files: ClassVar[Mapping[str, Sequence[str]]] = {"train": ["train.bin"], "test": ["test.bin"]}
    unsound = (
        "About 10 % of the test images have a near-duplicate in train that was edited or taken again (Barz and Denzler "
        "2020); they are left as published."
    )
    sources = published_files(
        "https://www.cs.toronto.edu/~kriz",
        {"cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"},
    )
