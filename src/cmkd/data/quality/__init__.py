"""Faults in paired data: eleven kinds, judged by what is usual in the data set itself; nothing is dropped."""

from cmkd.data.quality.check import check
from cmkd.data.quality.faults import KINDS, Fault, FaultReport
from cmkd.data.quality.sources import FolderSource, PackSource, open_source

__all__ = ["KINDS", "Fault", "FaultReport", "FolderSource", "PackSource", "check", "open_source"]
