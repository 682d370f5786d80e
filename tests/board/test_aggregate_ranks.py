"""Ranks over several tasks: against loops, with missing cells that stand for nothing, and with intervals that hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from board_rows import row, score
from numpy.typing import NDArray
from scipy.stats import rankdata

from melp_bench.board.aggregate_ranks import (
    AggregateRank,
    aggregate_ranks,
    letter_groups,
    mean_ranks,
    separable,
    win_rates,
)
from melp_bench.board.arrangement import build_board
from melp_bench.measure import pack
from melp_bench.results import Resamples, ResultRecord

Floats = NDArray[np.float64]
TASKS = ("d/super", "d/sub", "d/form", "d/rhythm")


def rows_of(
    scores: dict[str, list[float | None]], spread: float = 0.01, evaluation: str = "zero_shot", lower: bool = False
) -> list[ResultRecord]:
    """Return a row per score of each method on each task; all methods share what is hard about the patients."""
    rows = []
    for t, task in enumerate(TASKS):
        shared = np.random.default_rng(t).normal(0, 0.03, 300)
        for m, (model, values) in enumerate(scores.items()):
            value = values[t] if t < len(values) else None
            if value is not None:
                own = np.random.default_rng(100 * t + m).normal(0, spread, 300)
                kept = Resamples(origin=task, values=pack(value + shared + own))
                made = row(model, evaluation, task, auroc=score(value, 0.06), resamples=kept)
                if lower and made.outcome is not None:
                    labels = {n: m.model_copy(update={"higher_is_better": False}) for n, m in made.outcome.metrics.items()}
                    made = made.model_copy(update={"outcome": made.outcome.model_copy(update={"metrics": labels})})
                rows.append(made)
    return rows


def only(rows: list[ResultRecord]) -> AggregateRank:
    (found,) = aggregate_ranks(build_board(rows)[0])
    return found


def test_with_every_cell_there_the_mean_rank_is_the_mean_of_the_ranks() -> None:
    scores = np.round(np.random.default_rng(0).random((6, 9)), 1)  # with ties
    wins, shared = win_rates(scores, np.ones(9))
    wanted = np.mean([rankdata(-scores[:, t]) for t in range(9)], axis=0)
    np.testing.assert_allclose(mean_ranks(wins), wanted)
    np.testing.assert_allclose(wins + wins.T, np.ones((6, 6)))
    assert (shared == 9).all()


def test_a_missing_cell_is_in_no_win_rate_and_stands_for_nothing() -> None:
    scores = np.random.default_rng(1).random((4, 5))
    scores[2, 1:4] = np.nan
    wins, shared = win_rates(scores, np.ones(5))
    for i, j in itertools.permutations(range(4), 2):
        both = [t for t in range(5) if not np.isnan(scores[[i, j], t]).any()]
        assert wins[i, j] == np.mean([scores[i, t] > scores[j, t] for t in both])
        assert shared[i, j] == len(both)
    scores[2] = [np.nan, 1, np.nan, np.nan, np.nan]
    scores[3, 1] = np.nan
    assert np.isnan(mean_ranks(win_rates(scores, np.ones(5))[0])[[2, 3]]).all()  # they share no task


def test_the_best_method_leads_with_its_interval_and_missing_cells_are_counted_and_named() -> None:
    found = only(rows_of({"good": [0.9, 0.8, 0.7, 0.9], "bad": [0.6, 0.5, 0.4, 0.6], "partial": [0.7, None, None, 0.7]}))
    assert [(m.label, m.mean_rank, m.best_rank, m.worst_rank, m.groups) for m in found.methods] == [
        ("good", 1.0, 1, 1, "a"),
        ("partial", 2.0, 2, 2, "b"),
        ("bad", 3.0, 3, 3, "c"),
    ]
    assert found.methods[1].missing == ("d/form", "d/sub")
    assert (found.methods[1].cells, found.missing, found.tasks, found.tasks_resampled) == (2, 2, 4, True)
    assert found.win_rates == ((None, 1.0, 1.0), (0.0, None, 1.0), (0.0, 0.0, None))
    assert found.shared[1] == (2, 2, 2)
    assert all(m.low == m.high == m.mean_rank for m in found.methods)


def test_methods_that_differ_by_chance_are_one_group_with_wide_ranks() -> None:
    found = only(rows_of({"a": [0.8, 0.7, 0.8, 0.7], "b": [0.801, 0.699, 0.8005, 0.7], "worse": [0.5] * 4}, spread=0.02))
    assert [m.groups for m in found.methods] == ["a", "a", "b"]
    assert {(m.best_rank, m.worst_rank) for m in found.methods[:2]} == {(1, 2)}
    assert found.methods[0].low is not None
    assert found.methods[0].low < 1.5 < found.methods[0].high  # type: ignore[operator]


def test_rows_on_other_records_are_missing_and_rows_without_resamples_have_ranks_without_intervals() -> None:
    rows = rows_of({"a": [0.8] * 4, "b": [0.7] * 4, "c": [0.6] * 4})
    other = rows[1].outcome.resamples.model_copy(update={"origin": "else"})  # type: ignore[union-attr]
    rows[1] = rows[1].model_copy(update={"outcome": rows[1].outcome.model_copy(update={"resamples": other})})  # type: ignore[union-attr]
    found = only(rows)
    assert {m.label: len(m.missing) for m in found.methods} == {"a": 0, "b": 1, "c": 0}
    bare = [r.model_copy(update={"outcome": r.outcome.model_copy(update={"resamples": None})}) for r in rows if r.outcome]
    found = only(bare)
    assert [(m.label, m.mean_rank, m.low, m.groups, m.best_rank) for m in found.methods] == [
        ("a", 1.0, None, "", None),
        ("b", 2.0, None, "", None),
        ("c", 3.0, None, "", None),
    ]


def test_each_kind_of_measurement_has_its_ranks_and_all_together_count_every_task_once() -> None:
    rows = rows_of({"a": [0.9, 0.9], "b": [0.8, 0.8]})
    rows += rows_of({"a": [0.5, None], "b": [0.6, None]}, evaluation="linear_probe")
    everything, *each = aggregate_ranks(build_board(rows)[0])
    assert [one.title for one in each] == ["zero-shot"]
    assert everything.title == "all measurements"
    assert everything.win_rates[0][1] == pytest.approx(0.75)  # of super half, of sub all
    assert not everything.tasks_resampled


def test_lower_is_better_is_turned() -> None:
    found = only(rows_of({"a": [0.2] * 4, "b": [0.1] * 4}, lower=True))
    assert [(m.label, m.groups) for m in found.methods] == [("b", "a"), ("a", "b")]


@pytest.mark.parametrize("seed", range(5))
def test_methods_share_a_letter_if_and_only_if_they_are_not_separable(seed: int) -> None:
    generator = np.random.default_rng(seed)
    goodness = np.sort(generator.random(9))[::-1]
    apart = np.triu(generator.random((9, 9)) < 0.5, 1)
    apart |= apart.T
    letters = [set(text) for text in letter_groups(apart, goodness)]
    for i, j in itertools.combinations(range(9), 2):
        assert bool(letters[i] & letters[j]) == (not apart[i, j])
    assert "a" in letters[0]


def test_rank_intervals_hold_all_true_ranks_at_once() -> None:
    """Of methods with known truths, measured again and again: all rank intervals hold in 95 % of boards, and not in all."""
    truth = np.array([0.80, 0.80, 0.79, 0.75, 0.70])
    best, worst = (truth[:, None] < truth).sum(1) + 1, len(truth) - (truth[:, None] > truth).sum(1)
    held = exact = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        error = 0.012 * generator.standard_normal((5, 3))
        resampled = truth[:, None] + error + 0.012 * generator.standard_normal((300, 5, 3))
        scores = truth[:, None] + error
        apart = separable(scores, resampled, np.ones(3))
        mean = scores.mean(axis=1)
        low = 1 + (apart & (mean[:, None] < mean)).sum(1)
        high = 5 - (apart & (mean[:, None] > mean)).sum(1)
        held += bool(((low <= best) & (worst <= high)).all())
        exact += bool((low[4], high[4]) == (5, 5))
    assert held >= 180  # 190 expected at least
    assert exact > 100
