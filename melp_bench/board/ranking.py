"""Who is separable from whom: ranks by intervals, never by digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from melp_bench.results import Score

K = TypeVar("K")


@dataclass(frozen=True)
class Standing:
    """Where a score stands in its column."""

    rank: int
    best: bool  # it is in the best group: its interval overlaps the interval of the best value
    leads: bool  # it is the best value itself


def overlap(a: Score, b: Score) -> bool:
    """Whether two intervals share a point, ends included."""
    return a.low <= b.high and b.low <= a.high


def standings(scores: Mapping[K, Score], *, higher_is_better: bool = True) -> dict[K, Standing]:
    """Return each score's standing.

    The best group is every score whose interval overlaps the interval of the best value; all of it has rank 1. Any
    other score has rank 1 + the number of scores that are separably better. Overlap of two intervals is a cautious
    rule: scores it separates differ; scores it does not separate may still differ under a paired test.
    """
    if not scores:
        return {}
    turned = scores if higher_is_better else {key: _turned(score) for key, score in scores.items()}
    highest = max(score.value for score in turned.values())
    leaders = [score for score in turned.values() if score.value == highest]
    placed = {}
    for key, score in turned.items():
        best = any(overlap(score, leader) for leader in leaders)
        above = sum(other.low > score.high for other in turned.values())
        placed[key] = Standing(rank=1 if best else 1 + max(above, 1), best=best, leads=score.value == highest)
    return placed


def _turned(score: Score) -> Score:
    return Score(value=-score.value, low=-score.high, high=-score.low)
