"""Data sets known by name, one file each, and opening of paired data from a user's reference."""

from cmkd.datasets.base import DATASETS as DATASETS
from cmkd.datasets.base import DataSet as DataSet
from cmkd.datasets.base import Listing as Listing
from cmkd.datasets.base import read_pairs as read_pairs
from cmkd.datasets.formats.fetch import PublishedFile as PublishedFile
from cmkd.datasets.open import open_data as open_data
from cmkd.datasets.open import prepare as prepare
