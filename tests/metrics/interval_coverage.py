"""How often intervals cover the truth: simulated test sets whose true scores are known, scored and resampled as rows are.

Records of a patient share their patient's effect, half of their variance, so that resampling records would be too sure. The
score of a class is normal, shifted where the record has the class; the true AUROC is then a normal probability, the true
average precision an integral. Balances are those of PTB-XL's test fold for superclasses and for rhythms.

`python tests/metrics/interval_coverage.py [REPETITIONS [RESAMPLES]]` prints the tables of docs/statistics.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from melp_bench.metrics import Bootstrap, Given, bootstrap, difference_of
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

Ends = tuple[float, float]
GROUPS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, 100_000))
"""Of classes, by how many patients have them."""


def percentile_macro(found: Bootstrap) -> Ends:
    """Return the percentiles of the macro means over the classes that remain in a resample."""
    low, high = np.nanquantile(np.nanmean(found.resampled, axis=1), [0.025, 0.975])
    return float(low), float(high)


def percentile_class(found: Bootstrap, column: int) -> Ends:
    """Return the percentiles of one class's resamples."""
    low, high = np.nanquantile(found.resampled[:, column], [0.025, 0.975])
    return float(low), float(high)


def bca_macro(found: Bootstrap, scores: Floats, labels: NDArray[np.bool_], patients: NDArray[np.str_]) -> Ends:
    """Return the bias-corrected and accelerated interval (Efron 1987), its acceleration from leaving out each patient."""
    macro, value = np.nanmean(found.resampled, axis=1), float(found.point.mean())
    left = (patients[:, None] != np.unique(patients)[None]).astype(np.float64)  # (N, patients)
    without = np.nanmean(found.metric.function(scores, labels, left), axis=0)
    pull = without.mean() - without
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    bias = stats.norm.ppf(np.clip((macro < value).mean(), 1e-3, 1 - 1e-3))
    ends = bias + stats.norm.ppf([0.025, 0.975])
    low, high = np.quantile(macro, stats.norm.cdf(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)


@dataclass
class Coverage:
    """How many intervals there were, how many lay above or below the truth, and how long they were together."""

    made: int = 0
    above: int = 0
    below: int = 0
    length: float = 0.0

    def add(self, interval: Ends, value: float, truth: float) -> None:
        """Count an interval, which reaches to its value at least."""
        low, high = min(interval[0], value), max(interval[1], value)
        self.made += 1
        self.above += truth < low
        self.below += truth > high
        self.length += high - low

    @property
    def share(self) -> float:
        """How often the truth was inside."""
        return 1 - (self.above + self.below) / self.made

    def __str__(self) -> str:
        ends = f"{100 * self.below / self.made:.1f} / {100 * self.above / self.made:.1f}"
        return f"{100 * self.share:.1f} % ({ends}; {self.length / self.made:.3f})"


@dataclass
class Simulation:
    """Coverage of macro intervals by (metric, kind), of classes by (metric, kind, group), and p-values between equal models."""

    macro: dict[tuple[str, str], Coverage]
    classes: dict[tuple[str, str, tuple[int, int]], Coverage]
    bias: dict[str, list[float]]
    p_values: list[float]


def simulate(balance: Balance, repetitions: int, resamples: int, *, bca: bool = False, pairs: bool = False) -> Simulation:
    """Return how intervals did on as many test sets of the balance."""
    done = Simulation({}, {}, {}, [])
    for repetition in range(repetitions):
        generator = np.random.default_rng([len(balance.prevalence), balance.records, repetition])
        scores, labels, patients = balance.draw(generator)
        kept = labels.any(axis=0) & ~labels.all(axis=0)
        scores, labels = scores[:, kept], labels[:, kept]
        given = [Given(metric(), scores[None], labels) for metric in (auroc, auprc)]
        for found in bootstrap(given, patients, resamples=resamples, seed=repetition):
            name, truth = found.metric.name, balance.truth(found.metric.name)[kept]
            value, *ends = found.macro()
            kinds = {"percentile": percentile_macro(found), "used": (ends[0], ends[1])}
            if bca:
                kinds["BCa"] = bca_macro(found, scores, labels, patients)
            for kind, interval in kinds.items():
                done.macro.setdefault((name, kind), Coverage()).add(interval, value, float(truth.mean()))
            done.bias.setdefault(name, []).append(value - float(truth.mean()))
            for c in range(labels.shape[1]):
                have = len(np.unique(patients[labels[:, c]]))
                group = next(group for group in GROUPS if group[0] <= have <= group[1])
                value, *ends = found.of_class(c)
                for kind, interval in {"percentile": percentile_class(found, c), "used": (ends[0], ends[1])}.items():
                    done.classes.setdefault((name, kind, group), Coverage()).add(interval, value, float(truth[c]))
        if pairs:
            noisy = [scores + 0.7 * generator.standard_normal(scores.shape) for _ in range(2)]
            pair = bootstrap(
                [Given(auroc(), one[None], labels) for one in noisy], patients, resamples=resamples, seed=repetition
            )
            one, two = (found.resampled_macro() for found in pair)
            done.p_values.append(difference_of(pair[0].macro()[0] - pair[1].macro()[0], one, two, 0.95).p)
    return done


def table(repetitions: int = 400, resamples: int = 500) -> Iterator[str]:
    """Yield the lines of the tables, as Markdown."""
    done = {b: simulate(b, repetitions, resamples, bca=b.records <= 500, pairs=b.records <= 500) for b in BALANCES}
    yield "| test set | metric | percentile | BCa | used |"
    yield "|---|---|---|---|---|"
    for balance, found in done.items():
        for metric in ("auroc", "auprc"):
            kinds = (found.macro.get((metric, kind), "") for kind in ("percentile", "BCa", "used"))
            yield f"| {balance.name}, {balance.records} records | {metric} | {' | '.join(map(str, kinds))} |"
    yield ""
    yield "| patients with the class | metric | classes | percentile | used |"
    yield "|---|---|---|---|---|"
    for metric in ("auroc", "auprc"):
        for group in GROUPS:
            added = [_added(done.values(), (metric, kind, group)) for kind in ("percentile", "used")]
            last = f"to {group[1]}" if group[1] < 100_000 else "and more"
            told = group[0] if group[0] == group[1] else f"{group[0]} {last}"
            yield f"| {told} | {metric} | {added[0].made} | {added[0]} | {added[1]} |"
    yield ""
    for balance, found in done.items():
        bias = ", ".join(f"{metric} {np.mean(values):+.4f}" for metric, values in found.bias.items())
        called = 100 * np.mean(np.array(found.p_values) < 0.05) if found.p_values else None
        false = "" if called is None else f"; equal models called different at 0.05: {called:.1f} %"
        yield f"- {balance.name}: mean error of the macro mean: {bias}{false}"


def _added(many: Iterable[Simulation], place: tuple[str, str, tuple[int, int]]) -> Coverage:
    total = Coverage()
    for one in (simulation.classes[place] for simulation in many if place in simulation.classes):
        total.made, total.above, total.below = total.made + one.made, total.above + one.above, total.below + one.below
        total.length += one.length
    return total


if __name__ == "__main__":
    for line in table(*map(int, sys.argv[1:])):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
