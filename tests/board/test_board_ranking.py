"""Ranks by intervals, on rows made by hand."""

from __future__ import annotations

import itertools
import random

from melp_bench.board.ranking import overlap, standings
from melp_bench.results import Score


def interval(low: float, value: float, high: float) -> Score:
    return Score(value=value, low=low, high=high)


def test_the_best_group_is_the_leader_and_everything_that_overlaps_it() -> None:
    scores = {
        "melp": interval(0.84, 0.86, 0.88),
        "merl": interval(0.83, 0.85, 0.87),
        "simclr": interval(0.76, 0.79, 0.81),
        "random": interval(0.60, 0.62, 0.64),
    }
    placed = standings(scores)
    assert [placed[name].rank for name in scores] == [1, 1, 3, 4]
    assert [placed[name].best for name in scores] == [True, True, False, False]
    assert [placed[name].leads for name in scores] == [True, False, False, False]


def test_intervals_that_touch_are_not_separable() -> None:
    placed = standings({"a": interval(0.8, 0.9, 1.0), "b": interval(0.6, 0.7, 0.8)})
    assert placed["b"].best
    placed = standings({"a": interval(0.8001, 0.9, 1.0), "b": interval(0.6, 0.7, 0.8)})
    assert not placed["b"].best
    assert placed["b"].rank == 2


def test_a_wide_interval_below_a_narrow_one_may_still_be_in_the_best_group() -> None:
    placed = standings(
        {"best": interval(0.90, 0.92, 0.94), "narrow": interval(0.88, 0.885, 0.89), "wide": interval(0.6, 0.8, 0.95)}
    )
    assert placed["narrow"].rank == 2
    assert placed["wide"].rank == 1
    assert placed["wide"].best


def test_two_methods_below_the_best_and_not_separable_from_each_other_share_a_rank() -> None:
    placed = standings({"a": interval(0.90, 0.91, 0.92), "b": interval(0.70, 0.75, 0.80), "c": interval(0.68, 0.74, 0.79)})
    assert placed["b"].rank == placed["c"].rank == 2


def test_ranks_obey_the_rule_written_as_loops_on_random_scores() -> None:
    rng = random.Random(0)
    for _ in range(200):
        ends = [sorted(rng.choices(range(30), k=3)) for _ in range(rng.randint(1, 7))]
        scores = {i: interval(low / 30, value / 30, high / 30) for i, (low, value, high) in enumerate(ends)}
        placed = standings(scores)
        top = max(s.value for s in scores.values())
        assert {i for i, p in placed.items() if p.leads} == {i for i, s in scores.items() if s.value == top}
        for i, score in scores.items():
            touches_best = any(s.value == top and not (s.low > score.high or s.high < score.low) for s in scores.values())
            assert placed[i].best == touches_best
            assert (placed[i].rank == 1) == touches_best
            if not touches_best:
                assert placed[i].rank == 1 + sum(1 for other in scores.values() if other.low > score.high)


def test_overlap_is_symmetric() -> None:
    pool = [interval(a, b, c) for a, b, c in itertools.combinations_with_replacement((0.1, 0.2, 0.3), 3)]
    assert all(overlap(a, b) == overlap(b, a) for a in pool for b in pool)


def test_nothing_to_rank_is_no_rank() -> None:
    assert standings({}) == {}


def test_where_lower_is_better_the_ranks_are_those_of_the_scores_turned_over() -> None:
    generator = random.Random(5)
    for _ in range(50):
        values = [generator.uniform(-2, 9) for _ in range(generator.randint(1, 6))]
        scores = {i: interval(v - 0.3, v, v + 0.4) for i, v in enumerate(values)}
        turned = {i: interval(-s.high, -s.value, -s.low) for i, s in scores.items()}
        assert standings(scores, higher_is_better=False) == standings(turned)
        assert standings(scores, higher_is_better=False)[min(scores, key=lambda i: scores[i].value)].leads
