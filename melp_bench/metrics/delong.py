"""Areas under ROC curves and their covariance in closed form, without resamples.

Papers: DeLong, DeLong and Clarke-Pearson 1988; by midranks in O(N log N), Sun and Xu 2014; where a patient has several records,
Obuchowski 1997, which is DeLong's where each has one.

Shapes: M models scored on the same N records.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.metrics.paired import Difference
from melp_bench.metrics.ranking import Floats


def delong(
    scores: NDArray[np.floating[Any]], labels: NDArray[Any], patients: NDArray[Any] | None = None
) -> tuple[Floats, Floats]:
    """Return the AUROC of each model, shape (M,), and their covariance, (M, M), of `scores` (M, N) and `labels` (N,).

    The covariance is NaN where positives, or negatives, are of one patient.

    Raises:
        ValueError: there is no positive or no negative, or shapes do not fit.
    """
    positive = np.asarray(labels).astype(bool)
    if scores.ndim != 2 or scores.shape[1:] != positive.shape or not positive.any() or positive.all():
        raise ValueError(
            f"scores are {scores.shape} and labels {positive.shape} with {int(positive.sum())} positives; "
            "wanted (models, records) and (records,), with a positive and a negative"
        )
    of_positives, of_negatives = placements(scores, positive)  # (M, m), (M, n)
    areas: Floats = of_positives.mean(axis=1)
    owners = np.arange(len(positive)) if patients is None else np.unique(patients, return_inverse=True)[1]
    above, num_above = _by_patient(of_positives - areas[:, None], owners[positive], owners.max() + 1)
    below, num_below = _by_patient(of_negatives - areas[:, None], owners[~positive], owners.max() + 1)
    if min(num_above, num_below) < 2:
        return areas, np.full((len(areas), len(areas)), np.nan)
    total = len(np.unique(owners))
    covariance = num_above / (num_above - 1) * above @ above.T + num_below / (num_below - 1) * below @ below.T
    mixed = total / (total - 1) * above @ below.T  # of patients with both answers; zero where each has one record
    return areas, covariance + mixed + mixed.T


def placements(scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the share of negatives that each positive beats, (M, m), and of positives that beat each negative, (M, n)."""
    from scipy.stats import rankdata

    m, n = int(positive.sum()), int((~positive).sum())
    everyone = rankdata(scores, axis=1)
    beaten: Floats = (everyone[:, positive] - rankdata(scores[:, positive], axis=1)) / n
    beating: Floats = 1 - (everyone[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / m
    return beaten, beating


def delong_difference(
    first: NDArray[np.floating[Any]],
    second: NDArray[np.floating[Any]],
    labels: NDArray[Any],
    patients: NDArray[Any] | None = None,
    *,
    level: float = 0.95,
) -> Difference:
    """Return the AUROC of the first model's scores minus that of the second's, of one class, with DeLong's interval.

    Scores are (N,), or (S, N) of S probe seeds, whose AUROCs are averaged.

    Raises:
        ValueError: there is no positive or no negative.
    """
    from scipy.stats import norm

    one, two = np.atleast_2d(first), np.atleast_2d(second)
    areas, covariance = delong(np.concatenate([one, two]), labels, patients)
    contrast = np.repeat([1 / len(one), -1 / len(two)], [len(one), len(two)])
    value, variance = float(contrast @ areas), float(contrast @ covariance @ contrast)
    if math.isnan(variance):
        return Difference(value, -1.0, 1.0, 1.0)
    error = math.sqrt(max(variance, 0.0))
    if error < 1e-12:  # the same order of records
        return Difference(value, value, value, 1.0 if abs(value) < 1e-12 else 0.0)
    half = float(norm.isf((1 - level) / 2)) * error
    return Difference(value, value - half, value + half, float(2 * norm.sf(abs(value) / error)))


def _by_patient(deviations: Floats, owners: NDArray[np.int64], num_patients: int) -> tuple[Floats, int]:
    """Return the mean deviation's parts by patient, (M, patients), and how many patients have one."""
    sums = np.stack([np.bincount(owners, weights=row, minlength=num_patients) for row in deviations])
    return sums / deviations.shape[1], len(np.unique(owners))
