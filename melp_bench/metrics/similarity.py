"""How alike two models' features of the same records are, whatever the channels: centred kernel alignment.

Papers: Kornblith et al. 2019, Similarity of neural network representations revisited (arXiv:1905.00414); the unbiased estimate
of its terms, Song et al. 2012, Feature selection via dependence maximization, so that features of more channels than records
are not alike by chance (Nguyen et al. 2021, arXiv:2010.15327). The interval is a jackknife over groups of patients: a bootstrap
repeats records, and a repeated record is alike to itself in every model.

Shapes: N records, P and Q channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.metrics.ranking import Floats

GROUPS = 20
FEWEST = 4


@dataclass(frozen=True)
class Similarity:
    """A similarity with its interval: 1 where features differ by rotation and size alone, about 0 where independent."""

    value: float
    low: float
    high: float


def cka(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> float:
    """Return the linear CKA, each term unbiased, of features (N, P) and (N, Q) of the same records; NaN where one is constant.

    Raises:
        ValueError: they are not of the same records, or of fewer than four.
    """
    return _of_kernels(*_kernels(first, second))


def cka_interval(
    first: NDArray[np.floating[Any]],
    second: NDArray[np.floating[Any]],
    patients: NDArray[Any],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Similarity:
    """Return the linear CKA with the interval of a jackknife over at most 20 groups of patients (N,).

    Raises:
        ValueError: as `cka`.
    """
    one, two = _kernels(first, second)
    names, patient = np.unique(patients, return_inverse=True)
    groups = np.array_split(np.random.default_rng(seed).permutation(len(names)), min(GROUPS, len(names)))
    value = _of_kernels(one, two)
    left = []
    for group in groups:
        rows = np.flatnonzero(~np.isin(patient, group))
        if len(rows) >= FEWEST:
            left.append(_of_kernels(one[np.ix_(rows, rows)], two[np.ix_(rows, rows)]))
    if len(left) < 2 or not np.isfinite([value, *left]).all():
        return Similarity(value, float("nan"), float("nan"))
    spread = float(np.sqrt((len(left) - 1) * np.var(left)))
    reach = NormalDist().inv_cdf((1 + level) / 2) * spread
    return Similarity(value, value - reach, min(value + reach, max(1.0, value)))


def _kernels(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    """Return both Gram matrices (N, N), of centred features, which changes no estimate and keeps digits."""
    if len(first) != len(second) or len(first) < FEWEST:
        raise ValueError(f"features of {len(first)} and {len(second)} records; wanted the same records, at least {FEWEST}")
    made = [features.astype(np.float64) - features.mean(axis=0, dtype=np.float64) for features in (first, second)]
    return made[0] @ made[0].T, made[1] @ made[1].T


def _of_kernels(one: Floats, two: Floats) -> float:
    size = _hsic(one, one) * _hsic(two, two)
    return float(_hsic(one, two) / np.sqrt(size)) if size > 0 else float("nan")


def _hsic(one: Floats, two: Floats) -> float:
    """Return the unbiased estimate of HSIC of two kernels (N, N), whose diagonals do not count."""
    n = len(one)
    diagonals = np.diag(one), np.diag(two)
    sums = one.sum(axis=1) - diagonals[0], two.sum(axis=1) - diagonals[1]
    together = np.vdot(one, two) - diagonals[0] @ diagonals[1]
    apart = sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
    return float((together + apart - 2 * (sums[0] @ sums[1]) / (n - 2)) / (n * (n - 3)))
