"""Rows of one method that differ by the seed of its pretraining alone: their mean, with an interval, and how far they spread.

The interval is that of the mean over seeds under resampling of the test patients; where rows hold their resamples, every seed
met the same patients, and the mean of each resample is taken before its percentiles. How much the seeds differ is no part of
it: their lowest and highest score stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melp_bench.board.figures import triple
from melp_bench.measure import pack, unpack
from melp_bench.results import ClassScore, MetricLabel, Outcome, Resamples, ResultRecord, Score

LEVEL = 0.95  # where rows do not say the level of their interval


@dataclass(frozen=True)
class SeedSpread:
    """The scores of several pretraining seeds: how many, the lowest and the highest."""

    seeds: int
    low: float
    high: float

    def told(self, label: MetricLabel) -> str:
        """Return the spread as text: "3 seeds 0.790 to 0.930"."""
        _, low, high = triple(Score(value=self.low, low=self.low, high=self.high), label)
        return f"{self.seeds} seeds {low} to {high}"


def spread(records: Sequence[ResultRecord], metric: str) -> SeedSpread | None:
    """Return how far the scores of the rows of several seeds lie apart; None for one row."""
    values = [o.scores[metric].value for record in records if (o := record.outcome) is not None and metric in o.scores]
    return SeedSpread(len(values), min(values), max(values)) if len(values) > 1 else None


def by_seed(records: Sequence[ResultRecord]) -> list[ResultRecord]:
    """Return the rows in the order of their pretraining seeds."""
    return sorted(records, key=lambda record: (record.inputs.pretraining_seed or 0, record.key))


def over_seeds(records: Sequence[ResultRecord]) -> ResultRecord:
    """Return one row for those of several seeds: the first, by seed, that is scored, with the mean of the scores of all.

    A metric or class that a row lacks is averaged over those that have it.
    """
    ordered = by_seed(records)
    scored = [record for record in ordered if record.outcome is not None]
    if len(scored) < 2:
        return (scored or ordered)[0]
    outcomes = [record.outcome for record in scored if record.outcome is not None]
    first = outcomes[0]
    level = scored[0].inputs.interval.get("level", LEVEL)
    resamples = _resamples(outcomes)
    scores = {name: _mean([o.scores[name] for o in outcomes if name in o.scores]) for name in first.scores}
    if resamples is not None:
        drawn = unpack(resamples.values)
        tail = 50 * (1 - level)
        low, high = np.nanpercentile(drawn, [tail, 100 - tail])
        value = scores[first.primary].value
        scores[first.primary] = Score(value=value, low=min(float(low), value), high=max(float(high), value))
    merged = first.model_copy(update={"scores": scores, "classes": _classes(outcomes), "resamples": resamples})
    return scored[0].model_copy(update={"outcome": merged})


def _mean(scores: Sequence[Score]) -> Score:
    """Return the mean of scores and of the ends of their intervals, which no interval of their mean is wider than."""
    value, low, high = (sum(ends) / len(scores) for ends in zip(*((s.value, s.low, s.high) for s in scores), strict=True))
    return Score(value=value, low=low, high=high)


def _classes(outcomes: Sequence[Outcome]) -> list[ClassScore]:
    found: list[ClassScore] = []
    for entry in outcomes[0].classes:
        same = [other for outcome in outcomes for other in outcome.classes if other.name == entry.name]
        means = {name: _mean([one.scores[name] for one in same if name in one.scores]) for name in entry.scores}
        found.append(entry.model_copy(update={"scores": means}))
    return found


def _resamples(outcomes: Sequence[Outcome]) -> Resamples | None:
    """Return the mean of every resample over the rows; None unless all met the same ones and rank by the same metric."""
    kept = [outcome.resamples for outcome in outcomes if outcome.resamples is not None]
    alike = len({one.origin for one in kept}) == 1 and len({outcome.primary for outcome in outcomes}) == 1
    if len(kept) < len(outcomes) or not alike:
        return None
    drawn = np.mean([unpack(one.values) for one in kept], axis=0)
    return None if np.isnan(drawn).all() else Resamples(origin=kept[0].origin, values=pack(drawn))
