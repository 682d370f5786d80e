"""What is asked of every metric.

Shapes: N records, V validation records, C classes, R sets of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from melp_bench.metrics import Metric
from melp_bench.metrics.metric import Needs
from melp_bench.testing.verdict import demand

RECORDS, CLASSES, SETS = 90, 3, 5
Arrays = tuple[NDArray[np.float64], NDArray[Any]]
"""Scores as the metric needs them, and labels."""


@dataclass(frozen=True, eq=False)
class MetricSubject:
    """A metric, the name of its entry, and sets of weights (N, R) of which each record is drawn 0 to 3 times."""

    metric: Metric
    entry: str
    weights: NDArray[np.float64]

    def values(self, scores: NDArray[np.float64], labels: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the metric under each set of weights, of arrays that it cannot write to."""
        given = [np.array(array) for array in (scores, labels, weights)]
        for array in given:
            array.flags.writeable = False
        return np.asarray(self.metric.function(*given))


def metric_subject(build: Callable[[], Metric], entry: str) -> MetricSubject:
    """Return the subject of a metric's checks."""
    metric = build()
    if not isinstance(metric, Metric):
        raise TypeError(f"build returned {type(metric).__name__!r}; wanted a melp_bench.Metric")
    return MetricSubject(metric, entry, np.random.default_rng(1).integers(0, 4, (RECORDS, SETS)).astype(np.float64))


def make_scores(metric: Metric, kind: str = "good", seed: int = 0) -> Arrays:
    """Return scores (N, C) as the metric needs them, and labels (N, C); `kind` is "good", "perfect" or "random"."""
    generator = np.random.default_rng(seed)
    labels: NDArray[Any] = generator.random((2 * RECORDS, CLASSES)) < 0.4
    if metric.needs == "values":
        labels = generator.normal(50.0, 15.0, labels.shape)
        error = {"good": 0.5, "perfect": 0.0, "random": 3.0}[kind]
        return (labels + error * generator.normal(0.0, 15.0, labels.shape))[:RECORDS], labels[:RECORDS]
    signal = {"good": 1.5, "perfect": 0.0, "random": 0.0}[kind]
    logits = np.round(signal * labels + generator.standard_normal(labels.shape), 1)  # some are tied
    if kind == "perfect":
        logits = np.where(labels, 40.0, -40.0)
    if metric.needs == "probabilities":
        return 1 / (1 + np.exp(-logits[:RECORDS])), labels[:RECORDS]
    thresholds = metric.choose(logits[RECORDS:], labels[RECORDS:]) if metric.choose else 0.0
    return logits[:RECORDS] - thresholds, labels[:RECORDS]


def _declares(subject: MetricSubject) -> str:
    metric = subject.metric
    low, high = metric.bounds
    demand(bool(metric.label.strip()), "its label is empty")
    demand(low < high, f"its bounds are {low} and {high}")
    demand(metric.needs in get_args(Needs), f"it needs {metric.needs!r}; known: {', '.join(get_args(Needs))}")
    demand((metric.choose is not None) == (metric.needs == "thresholds"), "thresholds are for a metric that needs thresholds")
    known = metric.name == subject.entry or metric.name.startswith(f"{subject.entry}-")
    demand(known, f"its name is {metric.name!r}; wanted {subject.entry!r}, with what options change after a hyphen")
    return f"{metric.label}, {'higher' if metric.higher_is_better else 'lower'} is better, needs {metric.needs}"


def _shape(subject: MetricSubject) -> str:
    shape = subject.values(*make_scores(subject.metric), subject.weights).shape
    demand(shape in ((CLASSES, SETS), (SETS,)), f"of {CLASSES} classes and {SETS} sets of weights it returns shape {shape}")
    return "a number per class" if len(shape) == 2 else "one number over all classes"


def _repeated(subject: MetricSubject) -> str:
    scores, labels = make_scores(subject.metric)
    weighted = subject.values(scores, labels, subject.weights)
    far = 0.0
    for r in range(SETS):
        rows = np.repeat(np.arange(RECORDS), subject.weights[:, r].astype(int))
        written = subject.values(scores[rows], labels[rows], np.ones((len(rows), 1)))[..., 0]
        far = max(far, _distance(weighted[..., r], written))
    demand(far <= 1e-9, f"weights and repeated records differ by {far:.3g}")
    return f"differs by {far:.1g}"


def _order(subject: MetricSubject) -> str:
    scores, labels = make_scores(subject.metric)
    order = np.random.default_rng(2).permutation(RECORDS)
    one = subject.values(scores, labels, subject.weights)
    far = _distance(one, subject.values(scores[order], labels[order], subject.weights[order]))
    demand(far <= 1e-9, f"two orders of the records differ by {far:.3g}")
    return f"moves by {far:.1g}"


def _neighbours(subject: MetricSubject) -> str:
    scores, labels = make_scores(subject.metric)
    alone = subject.values(scores, labels, subject.weights[:, :1])[..., 0]
    far = _distance(alone, subject.values(scores, labels, subject.weights)[..., 0])
    demand(far <= 1e-9, f"a set of weights alone and among others differ by {far:.3g}")
    return f"moves by {far:.1g}"


def _bounds(subject: MetricSubject) -> str:
    low, high = subject.metric.bounds
    least, most = np.inf, -np.inf
    for kind in ("good", "perfect", "random"):
        values = subject.values(*make_scores(subject.metric, kind), subject.weights)
        demand(not np.isnan(values).any(), f"{kind} scores of records with both answers give {int(np.isnan(values).sum())} NaN")
        least, most = min(least, float(values.min())), max(most, float(values.max()))
    demand(low - 1e-12 <= least and most <= high + 1e-12, f"{least:.4g} to {most:.4g}; its bounds are {low} and {high}")
    return f"{least:.3g} to {most:.3g}"


def _direction(subject: MetricSubject) -> str:
    if subject.metric.descriptive:
        return "it describes, and is compared with no truth"
    ones = np.ones((RECORDS, 1))
    perfect, random = (float(np.mean(subject.values(*make_scores(subject.metric, k), ones))) for k in ("perfect", "random"))
    better = perfect > random if subject.metric.higher_is_better else perfect < random
    demand(better, f"perfect scores give {perfect:.4g}, random ones {random:.4g}; is higher_is_better right?")
    return f"{perfect:.3g} against {random:.3g}"


def _lost(subject: MetricSubject) -> str:
    """Ask for a resample that lost every record with the first class: NaN is an answer, infinity and errors are not."""
    scores, labels = make_scores(subject.metric)
    weights = subject.weights * (labels[:, :1] == 0) if subject.metric.needs != "values" else subject.weights
    values = subject.values(scores, labels, weights)
    demand(not np.isinf(values).any(), "it is infinite where a resample lost every record with a class")
    return "not defined" if np.isnan(values).any() else "defined"


def _distance(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Return the largest difference; infinite where only one is NaN."""
    if (np.isnan(one) != np.isnan(two)).any():
        return float("inf")
    return float(np.nan_to_num(np.abs(one - two)).max())


METRIC_CHECKS: dict[str, Callable[[MetricSubject], str]] = {
    "it declares what it is": _declares,
    "it has a number per class, or one over all": _shape,
    "weights are repeated records": _repeated,
    "the order of the records does not matter": _order,
    "a set of weights does not depend on others": _neighbours,
    "its values lie within its bounds": _bounds,
    "perfect scores are better than random ones": _direction,
    "a resample may lose a class": _lost,
}
