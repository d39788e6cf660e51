"""Structure of trained models' features: `find` models, then `analyze` them on a split of a data set."""

from cmkd.analysis.compare import compare as compare
from cmkd.analysis.compare import matched as matched
from cmkd.analysis.measure import Analysis as Analysis
from cmkd.analysis.measure import analyze as analyze
from cmkd.analysis.measure import stage_features as stage_features
from cmkd.analysis.subjects import Subject as Subject
from cmkd.analysis.subjects import find as find
from cmkd.analysis.subjects import teacher_of as teacher_of
