"""Where the uncertainty of a score comes from: other test patients, another seed of the probe, another seed of the pretraining.

A method with K pretraining seeds, whose rows are means over S probe seeds, has three variances:

- of test sampling: that of the resamples of the mean over all seeds,
- of probe seeds: that of the scores of probes within a row, pooled over rows,
- of pretraining seeds: that of the rows' scores, less the S-th part of the probes' that is in it, and never below zero.

The interval of the mean, which speaks of patients and seeds alike, adds the first to the K-th part of the rows' variance and
is Student's t with Satterthwaite's degrees of freedom (1946), on which K - 1 weigh; of one pretraining seed it is not known.
Seeds and patients are taken to act apart: that one seed is better for some patients than another is in no part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from melp_bench.board.pretraining_seeds import over_seeds
from melp_bench.board.sections import Column, Section
from melp_bench.measure import unpack
from melp_bench.results import ResultRecord, Score

MANY = 1e6  # degrees of freedom of a variance that hundreds of resamples give
LEVEL = 0.95


@dataclass(frozen=True)
class SeedVariance:
    """The standard deviations that make the uncertainty of one score; None where a single seed says nothing of one."""

    score: Score  # over patients alone, as boards show it
    test_sd: float
    probe_sd: float | None
    pretraining_sd: float | None
    probe_seeds: int
    pretraining_seeds: int
    low: float | None  # of the interval over patients and pretraining seeds
    high: float | None


def seed_variances(section: Section) -> Iterator[tuple[Column, str, SeedVariance]]:
    """Yield what is known of every cell that has several seeds of either kind: column, method's label, and variances."""
    for table in section.tables:
        for column in table.columns:
            for method in table.methods:
                cell = column.cells.get(method.anchor)
                if cell is not None and (found := seed_variance(cell.seeds)) is not None:
                    yield column, method.label, found


def seed_variance(rows: Sequence[ResultRecord], level: float = LEVEL) -> SeedVariance | None:
    """Return the parts of the uncertainty of the mean of `rows`, one per pretraining seed.

    None where there is one seed of each kind, or rows hold no resamples or other ones.
    """
    outcomes = [row.outcome for row in rows if row.outcome is not None]
    merged = over_seeds(rows).outcome if rows else None
    if merged is None or merged.resamples is None:
        return None
    primary = merged.primary
    if any(primary not in outcome.scores for outcome in outcomes):
        return None
    by_probe = [probes for o in outcomes if len(probes := _by_probe(o.details.get(f"{primary}_by_seed"))) > 1]
    if len(outcomes) < 2 and not by_probe:
        return None
    drawn = unpack(merged.resamples.values)
    test = float(np.nanvar(drawn, ddof=1)) if (~np.isnan(drawn)).sum() > 1 else 0.0
    probe = float(np.mean([np.var(probes, ddof=1) for probes in by_probe])) if by_probe else None
    in_rows = (probe or 0.0) * float(np.mean([1 / len(probes) for probes in by_probe])) if by_probe else 0.0
    values = [outcome.scores[primary].value for outcome in outcomes]
    low = high = between = None
    if len(values) > 1:
        observed = float(np.var(values, ddof=1))
        between = max(observed - in_rows, 0.0)
        low, high = _interval(merged.scores[primary].value, test, observed, len(values), level)
    return SeedVariance(
        score=merged.scores[primary],
        test_sd=math.sqrt(test),
        probe_sd=None if probe is None else math.sqrt(probe),
        pretraining_sd=None if between is None else math.sqrt(between),
        probe_seeds=max((len(probes) for probes in by_probe), default=1),
        pretraining_seeds=len(values),
        low=low,
        high=high,
    )


def _by_probe(found: object) -> list[float]:
    return [float(value) for value in found] if isinstance(found, list) else []


def _interval(value: float, test: float, observed: float, seeds: int, level: float) -> tuple[float, float]:
    """Return the t interval of the mean of `seeds` rows whose scores have the variance `observed`."""
    from scipy.special import stdtrit

    seeding = observed / seeds
    total = test + seeding
    if total == 0:
        return value, value
    freedom = total**2 / (test**2 / MANY + seeding**2 / (seeds - 1))
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(total)
    return value - half, value + half
