"""Faults of pairs, judged by what is usual in the data set itself, and shortcuts to the class; nothing is dropped."""

from cmkd.data.quality.check import check
from cmkd.data.quality.faults import KINDS, Fault, FaultReport, Shortcut, Shortcuts
from cmkd.data.quality.shortcuts import find_shortcuts
from cmkd.data.quality.sources import FolderSource, PackSource, open_source

__all__ = [
    "KINDS",
    "Fault",
    "FaultReport",
    "FolderSource",
    "PackSource",
    "Shortcut",
    "Shortcuts",
    "check",
    "find_shortcuts",
    "open_source",
]
