"""Metrics of feature spaces: dimensional structure, discriminability, and similarity of two models.

`describe` and `compare` are the entry points; the functions behind them take features or their `Moments`.
`cmkd.structure.metrics` offers these metrics in the form of torchmetrics classes, updated batch by batch; it is slow to
import and therefore not imported here. All statistics are computed in float64.
"""

from cmkd.structure.channels import Moments as Moments
from cmkd.structure.channels import channel_correlation as channel_correlation
from cmkd.structure.channels import correlation_mean_abs as correlation_mean_abs
from cmkd.structure.channels import correlation_norm as correlation_norm
from cmkd.structure.channels import effective_rank as effective_rank
from cmkd.structure.channels import participation_ratio as participation_ratio
from cmkd.structure.channels import spectral_decay as spectral_decay
from cmkd.structure.channels import spectrum as spectrum
from cmkd.structure.describe import COMPARED as COMPARED
from cmkd.structure.describe import DESCRIBED as DESCRIBED
from cmkd.structure.describe import ESSENTIAL as ESSENTIAL
from cmkd.structure.describe import compare as compare
from cmkd.structure.describe import describe as describe
from cmkd.structure.describe import essentials as essentials
from cmkd.structure.discriminability import cross_validated_accuracy as cross_validated_accuracy
from cmkd.structure.discriminability import fisher_ratio as fisher_ratio
from cmkd.structure.discriminability import held_out_accuracy as held_out_accuracy
from cmkd.structure.discriminability import linear_probe as linear_probe
from cmkd.structure.discriminability import nearest_neighbor_classifier as nearest_neighbor_classifier
from cmkd.structure.discriminability import neural_collapse as neural_collapse
from cmkd.structure.discriminability import silhouette as silhouette
from cmkd.structure.features import as_vectors as as_vectors
from cmkd.structure.sample_size import caveats as caveats
from cmkd.structure.sample_size import chance_cka as chance_cka
from cmkd.structure.sample_size import chance_correlation as chance_correlation
from cmkd.structure.sample_size import fraction_caveat as fraction_caveat
from cmkd.structure.sample_size import likeness_caveats as likeness_caveats
from cmkd.structure.similarity import CrossMoments as CrossMoments
from cmkd.structure.similarity import cross_correlation_diagonal as cross_correlation_diagonal
from cmkd.structure.similarity import linear_cka as linear_cka
from cmkd.structure.similarity import non_target_divergence as non_target_divergence
from cmkd.structure.similarity import prediction_agreement as prediction_agreement
from cmkd.structure.sphere import alignment as alignment
from cmkd.structure.sphere import mean_cosine as mean_cosine
from cmkd.structure.sphere import nearest_neighbor_entropy as nearest_neighbor_entropy
from cmkd.structure.sphere import tolerance as tolerance
from cmkd.structure.sphere import uniformity as uniformity
from cmkd.structure.sphere import unit_vectors as unit_vectors
