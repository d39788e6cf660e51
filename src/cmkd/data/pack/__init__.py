"""The pack: paired data on disk, its card, and how it is written, compared and summarized."""

from cmkd.data.pack.card import SPLITS, Card, CardInfo, Version
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.sample import train_values
from cmkd.data.pack.writer import PackExistsError, PackWriter

__all__ = ["SPLITS", "Card", "CardInfo", "Pack", "PackExistsError", "PackWriter", "Version", "train_values"]
