"""From predictions to an `Outcome`: the one place where macro means, intervals and the lists of odd classes are made.

Every statistic is the mean over the probe seeds, on the records and on each resample alike (all seeds meet the same
resamples). So an interval speaks of the test patients; how much the seeds differ is told beside it, in the details.

The outcome also holds the resampled macro means of its primary metric and a digest of what was resampled: two rows with the
same digest met the same resamples, and `difference` tells from the rows alone whether they are separable.

Shapes: S probe seeds (1 where nothing is fitted), N scored records, C classes.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.canonical import digest
from melp_bench.errors import NotApplicable, UserError
from melp_bench.metrics.bootstrap import Bootstrap, Given, Triple, bootstrap
from melp_bench.metrics.metric import Metric
from melp_bench.metrics.paired import Difference, difference_of
from melp_bench.metrics.suited import Suited
from melp_bench.predictions import Predictions
from melp_bench.results import ClassScore, Interval, MetricLabel, Outcome, Resamples, Score

VERSION = 1
"""Raise with any change that can move a score."""

RARE = 10  # a class with fewer positives is marked


Stack = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class _Measured:
    """A metric with its resamples, and the positions of the classes that it was measured of."""

    result: Bootstrap
    columns: NDArray[np.int64]

    def of_class(self, column: int) -> Score | None:
        """Return the score of the class at `column` of the predictions, or None where there is none."""
        where = np.flatnonzero(self.columns == column)
        if not self.result.per_class or len(where) == 0 or not self.result.scorable[where[0]]:
            return None
        return _score(self.result.of_class(int(where[0])))


def measure(predictions: Predictions, metrics: Sequence[Metric], interval: Interval) -> Outcome:
    """Return the outcome of `predictions` by `metrics`, the first of which is primary, with intervals by patient.

    A metric that these predictions do not define is left out with its reason.

    Raises:
        NotApplicable: no class has both a positive and a negative, or the primary metric cannot be measured.
        UserError: no metric, or two of one name.
        ValueError: a score is not finite, or shapes do not fit.
    """
    names = [metric.name for metric in metrics]
    if not names or len(set(names)) < len(names):
        raise UserError(f"metrics are {names}; wanted at least one, and each name once")
    _check(predictions)
    scorable = _scorable(predictions)
    measured, missing = _measure(predictions, scorable, metrics, interval)
    primary = metrics[0]
    if primary.name in missing:
        raise NotApplicable(f"{primary.label} {missing[primary.name]}")
    positives = _positives(predictions)
    rare = (positives < RARE) & scorable & (predictions.kind != "value")
    first = measured[primary.name]
    return Outcome(
        scores={name: _score(one.result.macro()) for name, one in measured.items()},
        metrics={metric.name: label_of(metric) for metric in metrics},
        primary=primary.name,
        classes=[
            ClassScore(
                name=name,
                positives=int(positives[c]),
                records=len(predictions.labels),
                scores={metric: score for metric, one in measured.items() if (score := one.of_class(c)) is not None},
            )
            for c, name in enumerate(predictions.classes)
        ],
        excluded=[name for name, kept in zip(predictions.classes, scorable, strict=True) if not kept],
        rare=[name for name, few in zip(predictions.classes, rare, strict=True) if few],
        not_measured=missing,
        resamples=Resamples(
            origin=_origin(predictions, primary, first.columns, interval), values=pack(first.result.resampled_macro())
        ),
        details={**_common_details(first.result, predictions), **predictions.details},
    )


def label_of(metric: Metric) -> MetricLabel:
    """Return how a metric is read, as rows hold it."""
    low, high = (bound if math.isfinite(bound) else None for bound in metric.bounds)
    return MetricLabel(label=metric.label, higher_is_better=metric.higher_is_better, bounds=(low, high))


def difference(first: Outcome, second: Outcome, level: float) -> Difference | None:
    """Return the primary metric of the first minus that of the second with its paired interval.

    None where the two met different resamples, or share none that defines the metric.
    """
    one, two = first.resamples, second.resamples
    if one is None or two is None or one.origin != two.origin:
        return None
    values = unpack(one.values), unpack(two.values)
    if np.isnan(values[0] - values[1]).all():
        return None
    return difference_of(first.scores[first.primary].value - second.scores[second.primary].value, *values, level)


def pack(values: NDArray[np.float64]) -> str:
    """Return finite values or NaN as text, 32 bits each: exact to 6e-8 of their size."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def unpack(text: str) -> NDArray[np.float64]:
    """Return the values that `pack` made `text` of."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64)


def _check(predictions: Predictions) -> None:
    scores, labels = predictions.scores, predictions.labels
    if scores.ndim != 3 or scores.shape[1:] != labels.shape or labels.shape[1:] != (len(predictions.classes),):
        raise ValueError(
            f"scores are {scores.shape}, labels {labels.shape}, for {len(predictions.classes)} classes; "
            "wanted (seeds, records, classes) and (records, classes)"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")


def _scorable(predictions: Predictions) -> NDArray[np.bool_]:
    """Return which classes have both answers among the scored records, shape (C,); every quantity is one of them.

    Raises:
        NotApplicable: none has.
    """
    records, positives = len(predictions.labels), _positives(predictions)
    if predictions.kind == "value" and records:
        return np.ones(len(positives), dtype=bool)
    scorable: NDArray[np.bool_] = (positives > 0) & (positives < records)
    if not scorable.any():
        raise NotApplicable(f"no class has both a positive and a negative among the {records} scored records")
    return scorable


def _positives(predictions: Predictions) -> NDArray[np.int64]:
    """Return the records that have each class, shape (C,); of a quantity, all of them."""
    if predictions.kind == "value":
        return np.full(predictions.labels.shape[1], len(predictions.labels))
    positives: NDArray[np.int64] = predictions.labels.astype(bool).sum(axis=0)
    return positives


def _measure(
    predictions: Predictions, scorable: NDArray[np.bool_], metrics: Sequence[Metric], interval: Interval
) -> tuple[dict[str, _Measured], dict[str, str]]:
    """Return each metric with its resamples, and why the others have none, both by name."""
    kept = _kept(predictions, scorable)
    suited = Suited(kept)
    given: list[Given] = []
    columns: list[NDArray[np.int64]] = []
    missing: dict[str, str] = {}
    for metric in metrics:
        try:
            scores = suited.scores_for(metric)
        except NotApplicable as reason:
            missing[metric.name] = str(reason)
            continue
        usable = np.isfinite(scores).all(axis=(0, 1))  # (C,)
        if not usable.any():
            missing[metric.name] = "needs a positive and a negative among the validation records, and no class has both"
            continue
        whole = bool(usable.all())  # then the arrays stay those that other metrics read
        given.append(Given(metric, scores if whole else scores[..., usable], kept.labels if whole else kept.labels[:, usable]))
        columns.append(np.flatnonzero(scorable)[usable])
    results = bootstrap(given, kept.patients, level=interval.level, resamples=interval.resamples, seed=interval.seed)
    measured: dict[str, _Measured] = {}
    for result, places in zip(results, columns, strict=True):
        if not result.scorable.any() or not np.isfinite(result.macro()).all():
            missing[result.metric.name] = "is not defined on these records, or on none of their resamples"
        else:
            measured[result.metric.name] = _Measured(result, places)
    return measured, missing


def _kept(predictions: Predictions, scorable: NDArray[np.bool_]) -> Predictions:
    """Return the predictions of the scorable classes."""
    validation = predictions.validation
    return replace(
        predictions,
        scores=predictions.scores[..., scorable],
        labels=predictions.labels[:, scorable],
        classes=tuple(name for name, kept in zip(predictions.classes, scorable, strict=True) if kept),
        validation=validation and (validation[0][..., scorable], validation[1][:, scorable]),
    )


def _origin(predictions: Predictions, primary: Metric, columns: NDArray[np.int64], interval: Interval) -> str:
    """Return the digest of all that decides the resamples and what is measured on them."""
    answers = hashlib.sha256(np.ascontiguousarray(predictions.labels).astype("<f8").tobytes()).hexdigest()
    classes = [list(predictions.classes), [predictions.classes[c] for c in columns]]
    return digest([primary.name, classes, predictions.patients.tolist(), answers, interval.model_dump(mode="json")])


def _common_details(result: Bootstrap, predictions: Predictions) -> dict[str, Any]:
    details: dict[str, Any] = {
        "records": len(predictions.labels),
        "patients": len(np.unique(predictions.patients)),
        "resamples_with_a_lost_class": result.lost,
    }
    if len(result.by_seed) > 1:
        details[f"{result.metric.name}_by_seed"] = result.seed_macro.tolist()
        details[f"{result.metric.name}_sd_over_seeds"] = float(result.seed_macro.std(ddof=1))
    return details


def _score(triple: Triple) -> Score:
    value, low, high = triple
    return Score(value=value, low=low, high=high)
