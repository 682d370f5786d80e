"""Pure functions from scores and labels to numbers: ranking metrics, their bootstrap, paired differences, thresholds."""

from melp_bench.metrics.bootstrap import Bootstrap, Given, bootstrap
from melp_bench.metrics.delong import delong, delong_difference
from melp_bench.metrics.metric import Metric
from melp_bench.metrics.paired import Difference, difference_of, holm, paired_difference
from melp_bench.metrics.ranking import auroc, average_precision, weighted_auroc, weighted_precision, weighted_ranking
from melp_bench.metrics.threshold import acc_as_published, accuracy_at, max_f1

__all__ = [
    "Bootstrap",
    "Difference",
    "Given",
    "Metric",
    "acc_as_published",
    "accuracy_at",
    "auroc",
    "average_precision",
    "bootstrap",
    "delong",
    "delong_difference",
    "difference_of",
    "holm",
    "max_f1",
    "paired_difference",
    "weighted_auroc",
    "weighted_precision",
    "weighted_ranking",
]
