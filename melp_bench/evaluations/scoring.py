"""From scores to an `Outcome`: the one place where macro means, intervals and the lists of odd classes are made.

Every statistic is the mean over the probe seeds, on the records and on each resample alike (all seeds meet the same
resamples). So an interval speaks of the test patients; how much the seeds differ is told beside it, in the details.

The details also hold the resampled macro AUROCs (`resampled_auroc`) and a digest of what was resampled (`resampled_from`):
two rows with the same digest met the same resamples, and `difference` tells from the rows alone whether they are separable.

Shapes: S probe seeds (1 where nothing is fitted), N scored records, C classes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.canonical import digest
from melp_bench.errors import NotApplicable
from melp_bench.metrics.bootstrap import Bootstrap, bootstrap
from melp_bench.metrics.paired import Difference, difference_of
from melp_bench.protocol import Interval
from melp_bench.results import ClassScore, Outcome, Score

RARE = 10  # a class with fewer positives is marked
METRICS = ("auroc", "auprc")
STEPS = 65_534  # of a packed resample between 0 and 1; 65,535 is NaN


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
    positives = labels.sum(axis=0)
    scorable = (positives > 0) & (positives < len(labels))
    if not scorable.any():
        raise NotApplicable(f"no class has both a positive and a negative among the {len(labels)} scored records")
    result = bootstrap(scores, labels, patients, level=interval.level, resamples=interval.resamples, seed=interval.seed)
    return Outcome(
        scores={metric: _score(result.macro(metric)) for metric in METRICS},
        classes=[_class_score(result, c, name, int(positives[c]), len(labels)) for c, name in enumerate(classes)],
        excluded=[name for name, kept in zip(classes, scorable, strict=True) if not kept],
        rare=[name for name, kept, n in zip(classes, scorable, positives, strict=True) if kept and n < RARE],
        details={
            **_common_details(result, labels, patients),
            "resampled_from": _origin(labels, patients, classes, interval),
            "resampled_auroc": pack(result.resampled_macro("auroc")),
            **details,
        },
    )


def difference(first: Outcome, second: Outcome, level: float) -> Difference | None:
    """Return macro AUROC of the first minus the second with its paired interval; None if they met different resamples."""
    one, two = first.details, second.details
    if one.get("resampled_from") is None or one["resampled_from"] != two.get("resampled_from"):
        return None
    value = first.scores["auroc"].value - second.scores["auroc"].value
    return difference_of(value, unpack(one["resampled_auroc"]), unpack(two["resampled_auroc"]), level)


def pack(values: NDArray[np.float64]) -> str:
    """Return values between 0 and 1 (or NaN) as text, 16 bits each: exact to 8e-6."""
    steps = np.where(np.isnan(values), STEPS + 1, np.round(np.nan_to_num(values) * STEPS))
    return base64.b64encode(steps.astype("<u2").tobytes()).decode("ascii")


def unpack(text: str) -> NDArray[np.float64]:
    """Return the values that `pack` made `text` of."""
    steps = np.frombuffer(base64.b64decode(text), dtype="<u2").astype(np.float64)
    return np.where(steps > STEPS, np.nan, steps / STEPS)


def _origin(labels: NDArray[np.bool_], patients: NDArray[np.str_], classes: Sequence[str], interval: Interval) -> str:
    """Return the digest of all that decides the resamples and what is measured on them."""
    answers = hashlib.sha256(np.packbits(labels).tobytes()).hexdigest()
    return digest([list(classes), patients.tolist(), answers, interval.model_dump(mode="json")])


def _class_score(result: Bootstrap, column: int, name: str, positives: int, records: int) -> ClassScore:
    if not result.scorable[column]:
        return ClassScore(name=name, positives=positives, records=records)
    auroc, auprc = (_score(result.of_class(metric, column)) for metric in METRICS)
    return ClassScore(name=name, positives=positives, records=records, auroc=auroc, auprc=auprc)


def _common_details(result: Bootstrap, labels: NDArray[np.bool_], patients: NDArray[np.str_]) -> dict[str, Any]:
    details: dict[str, Any] = {
        "records": len(labels),
        "patients": len(np.unique(patients)),
        "resamples_with_a_lost_class": result.lost,
    }
    if len(result.seed_auroc) > 1:
        details["auroc_by_seed"] = result.seed_auroc.tolist()
        details["auroc_sd_over_seeds"] = float(result.seed_auroc.std(ddof=1))
    return details


def _score(triple: tuple[float, float, float]) -> Score:
    value, low, high = triple
    return Score(value=value, low=low, high=high)
