"""What is wrong with paired data: ten kinds of fault, found against the data set's own habits; nothing is dropped."""

from cmkd.data.quality.check import check
from cmkd.data.quality.faults import KINDS, Fault, FaultReport
from cmkd.data.quality.sources import FolderSource, PackSource, open_source

__all__ = ["KINDS", "Fault", "FaultReport", "FolderSource", "PackSource", "check", "open_source"]
