"""Statistics: scores of predictions, confidence intervals, comparisons of models, and the summary of a run."""

from cmkd.evaluation.intervals import bootstrap as bootstrap
from cmkd.evaluation.intervals import fraction_interval as fraction_interval
from cmkd.evaluation.intervals import in_points as in_points
from cmkd.evaluation.intervals import interval as interval
from cmkd.evaluation.intervals import mcnemar as mcnemar
from cmkd.evaluation.intervals import paired_interval as paired_interval
from cmkd.evaluation.intervals import paired_p_value as paired_p_value
from cmkd.evaluation.intervals import spearman as spearman
from cmkd.evaluation.scores import auroc as auroc
from cmkd.evaluation.scores import class_scores as class_scores
from cmkd.evaluation.scores import group_numbers as group_numbers
from cmkd.evaluation.scores import log_losses as log_losses
from cmkd.evaluation.scores import prediction_table as prediction_table
from cmkd.evaluation.scores import scores as scores
from cmkd.evaluation.scores import weighted_scores as weighted_scores
from cmkd.evaluation.summary import by_subset as by_subset
from cmkd.evaluation.summary import covered as covered
from cmkd.evaluation.summary import summarize as summarize
