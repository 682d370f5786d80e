"""Scores as a metric needs them: as they are, less a threshold, or as probabilities; or the reason why that cannot be.

Shapes: S probe seeds, N scored records, C classes.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import NotApplicable
from melp_bench.metrics.calibration import platt, sigmoid
from melp_bench.metrics.metric import Metric
from melp_bench.predictions import Predictions

Stack = NDArray[np.floating[Any]]


class Suited:
    """The scores of predictions for any metric; metrics with one need get one array, so that they can share its sort."""

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions

    def scores_for(self, metric: Metric) -> Stack:
        """Return scores (S, N, C) as `metric` needs them; a class that validation says nothing of is NaN.

        Raises:
            NotApplicable: the predictions do not hold what the metric needs.
        """
        estimates = self._predictions.kind == "value"
        if estimates and metric.needs != "values":
            raise NotApplicable("needs scores of classes, and these are estimates of quantities")
        if metric.needs == "values" and not estimates:
            raise NotApplicable("needs estimates of quantities, and these are scores of classes")
        if metric.needs == "probabilities":
            return self.probabilities
        return self._less_thresholds(metric) if metric.needs == "thresholds" else self._predictions.scores

    @cached_property
    def probabilities(self) -> Stack:
        """The scores as probabilities, shape (S, N, C).

        Raises:
            NotApplicable: they are a ranking, and there is no validation to calibrate it on.
            ValueError: they are said to be probabilities and are not.
        """
        given = self._predictions
        if given.kind == "logit":
            return sigmoid(given.scores)
        if given.kind == "probability":
            if given.scores.min() < 0 or given.scores.max() > 1:
                raise ValueError(f"probabilities lie between {given.scores.min()} and {given.scores.max()}; wanted 0 to 1")
            return given.scores
        if given.validation is None:
            raise NotApplicable("needs probabilities, and there is no validation record to calibrate this ranking on")
        return platt(given.scores, *given.validation)

    def _less_thresholds(self, metric: Metric) -> Stack:
        """Return the scores less the threshold that `metric` chooses on validation: not below 0 means positive."""
        given = self._predictions
        chosen_on = (given.scores, given.labels) if metric.chosen_on == "test" else given.validation
        if chosen_on is None or metric.choose is None:
            raise NotApplicable("needs thresholds, and there is no validation record to choose them on")
        validation, labels = chosen_on
        thresholds = np.stack([np.asarray(metric.choose(one, labels), dtype=np.float64) for one in validation])  # (S, C)
        return given.scores.astype(np.float64) - thresholds[:, None]
