"""From scores to an `Outcome` by the two ranking metrics.

Shapes: S probe seeds (1 where nothing is fitted), N scored records, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.measure import measure
from melp_bench.metrics import Metric, weighted_auroc, weighted_precision
from melp_bench.predictions import Predictions
from melp_bench.results import Interval, Outcome

METRICS = (Metric("auroc", "macro AUROC", weighted_auroc), Metric("auprc", "macro AUPRC", weighted_precision))


def outcome(
    scores: NDArray[np.floating[Any]],
    labels: NDArray[np.bool_],
    patients: NDArray[np.str_],
    classes: Sequence[str],
    interval: Interval,
    details: Mapping[str, Any],
) -> Outcome:
    """Return the outcome of `scores` (S, N, C) against `labels` (N, C) with intervals by `patients` (N,).

    Raises:
        NotApplicable: no record, or no class with both a positive and a negative.
    """
    records = np.arange(len(labels)).astype(str)
    return measure(Predictions(scores, labels, records, patients, tuple(classes), details=details), METRICS, interval)
