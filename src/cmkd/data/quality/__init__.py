"""Detection of faulty pairs, by limits taken from the data set itself, and of shortcuts to the class; drops nothing."""

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
