"""Scores become probabilities: the sigmoid of a logit, or Platt scaling where a score is no more than a ranking.

Paper: Platt 1999, Probabilistic outputs for support vector machines. A sigmoid of a slope times the score and an offset is
fitted per class on validation records, to targets a little inside 0 and 1 as the paper has them, so that classes that the
scores separate have a finite fit too. The fit itself is scikit-learn's logistic regression without a penalty.

Shapes: S probe seeds, N records, V validation records, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.metrics.ranking import Floats


def sigmoid(logits: NDArray[np.floating[Any]]) -> Floats:
    """Return the probability of each logit, of any size without overflow."""
    small = np.exp(-np.abs(logits.astype(np.float64)))
    probabilities: Floats = np.where(logits >= 0, 1.0, small) / (1 + small)
    return probabilities


def platt(scores: NDArray[np.floating[Any]], validation: NDArray[np.floating[Any]], labels: NDArray[Any]) -> Floats:
    """Return the probabilities of `scores` (S, N, C), calibrated on `validation` (S, V, C) with `labels` (V, C).

    A class without a positive or without a negative in validation cannot be calibrated: NaN.
    """
    probabilities = np.full(scores.shape, np.nan)
    for c in range(scores.shape[2]):
        positive = labels[:, c].astype(bool)
        if positive.all() or not positive.any():
            continue
        for s in range(len(scores)):
            slope, offset = _fit(validation[s, :, c].astype(np.float64), positive)
            probabilities[s, :, c] = sigmoid(slope * scores[s, :, c].astype(np.float64) + offset)
    return probabilities


def _fit(scores: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and offset of the sigmoid that fits the scores (V,) best."""
    from sklearn.linear_model import LogisticRegression  # seconds of import, which a run without such a metric is spared

    hits = positive.sum()
    target = np.where(positive, (hits + 1) / (hits + 2), 1 / (len(positive) - hits + 2))  # (V,)
    centre, spread = scores.mean(), scores.std() or 1.0
    given = np.tile((scores - centre) / spread, 2)[:, None]  # every record as a positive and as a negative, by its target
    answers = np.repeat([1, 0], len(scores))
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(given, answers, sample_weight=np.concatenate([target, 1 - target]))
    slope = float(model.coef_[0, 0]) / spread
    return slope, float(model.intercept_[0]) - slope * centre
