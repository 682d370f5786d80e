"""How often intervals cover the truth: simulated test sets whose true scores are known, scored and resampled as rows are.

Records of a patient share an effect, half of their variance, so that resampling records would be too sure. The score
of a class is normal, shifted where the record has the class; its true AUROC is then a normal probability, the true average
precision an integral. Balances are those of PTB-XL's test fold for superclasses and for rhythms.

`python tests/metrics/interval_coverage.py [REPETITIONS]` prints the tables of docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from melp_bench.metrics import Bootstrap, Given, bootstrap
from melp_plugins.metrics.ranking import auprc, auroc

Floats = NDArray[np.float64]

SUPER = (0.44, 0.25, 0.24, 0.23, 0.12)
RHYTHM = (0.80, 0.073, 0.039, 0.037, 0.030, 0.014, 0.0075, 0.0040, 0.0035, 0.0015, 0.0012, 0.0010)
SHARED = 0.5  # of a score's variance, by the records of a patient
SIGNALS = (2.2, 1.9, 1.6, 1.3)  # shifts of the classes, in turn: AUROC 0.94, 0.91, 0.87, 0.82


@dataclass(frozen=True)
class Balance:
    """A kind of test set: how many records, and how frequent each class is."""

    name: str
    records: int
    prevalence: tuple[float, ...]

    @property
    def shifts(self) -> Floats:
        """What having a class adds to its score, shape (C,)."""
        return np.array([SIGNALS[c % len(SIGNALS)] for c in range(len(self.prevalence))])

    def draw(self, generator: np.random.Generator) -> tuple[Floats, NDArray[np.bool_], NDArray[np.str_]]:
        """Return scores (N, C), labels (N, C) and patients (N,) of a new test set; every third patient has two records."""
        sizes = np.where(np.arange(self.records) % 3 == 0, 2, 1)
        patient = np.repeat(np.arange(self.records), sizes)[: self.records]
        labels = (generator.random((self.records, len(self.prevalence))) < self.prevalence)[patient]  # a patient's are alike
        own, shared = (generator.standard_normal(labels.shape) for _ in range(2))
        scores = np.sqrt(1 - SHARED) * own + np.sqrt(SHARED) * shared[patient] + self.shifts * labels
        return scores, labels, patient.astype(str)

    def truth(self, metric: str) -> Floats:
        """Return the true score of each class, shape (C,)."""
        if metric == "auroc":
            area: Floats = stats.norm.cdf(self.shifts / np.sqrt(2))
            return area
        return np.array([_precision(p, d) for p, d in zip(self.prevalence, self.shifts, strict=True)])


def _precision(prevalence: float, shift: float) -> float:
    """Return the average precision of normal scores: the mean of the precision at a positive's score."""
    quantiles = (np.arange(20_000) + 0.5) / 20_000
    threshold = stats.norm.ppf(quantiles) + shift
    hits, false = stats.norm.sf(threshold - shift), stats.norm.sf(threshold)
    return float(np.mean(prevalence * hits / (prevalence * hits + (1 - prevalence) * false)))


BALANCES = (
    Balance("super-like", 2158, SUPER),
    Balance("super-like, small", 300, SUPER),
    Balance("rhythm-like", 2098, RHYTHM),
    Balance("rhythm-like, small", 500, RHYTHM),
)

Interval = Callable[[Bootstrap], tuple[float, float]]


def test_sets(balance: Balance, repetitions: int, resamples: int) -> Iterator[tuple[dict[str, Bootstrap], dict[str, float]]]:
    """Yield both ranking metrics of test sets with their resamples, and the true macro means over the classes they have."""
    for repetition in range(repetitions):
        scores, labels, patients = balance.draw(np.random.default_rng([len(balance.prevalence), balance.records, repetition]))
        kept = labels.any(axis=0) & ~labels.all(axis=0)
        given = [Given(metric(), scores[None][..., kept], labels[:, kept]) for metric in (auroc, auprc)]
        found = bootstrap(given, patients, resamples=resamples, seed=repetition)
        yield (
            {one.metric.name: one for one in found},
            {one.metric.name: float(balance.truth(one.metric.name)[kept].mean()) for one in found},
        )


test_sets.__test__ = False  # type: ignore[attr-defined]
