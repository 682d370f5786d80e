"""Which method is ahead over several tasks, and how sure that is: mean ranks, win rates, rank intervals, groups.

- A win rate is the share of tasks on which one method scores better than another, a tie counting half, over the tasks that
  both were scored on. A mean rank is one more than the sum of a method's losses, which is the usual mean rank where every
  method was scored on every task (Demsar 2006). A cell that is missing is in no win rate, is counted and named; nothing stands
  in for it, and a method that shares no task with another has no rank.
- Their intervals resample patients, each task's as its rows were resampled, and, from `FEWEST_TASKS` on, tasks with them.
- Two methods are separable if their mean difference over shared tasks leaves zero out of intervals that hold for all pairs at
  once, from the largest standardised difference of the resamples. A method's rank interval follows: one more than those
  separably better, to all but those separably worse (Mogstad, Romano, Shaikh and Wilhelm 2024). This is of these tasks:
  patients are resampled, and tasks are not.
- Methods that share a letter are not separable (Piepho 2004).

Shapes: M methods, T measurements, R resamples.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from string import ascii_lowercase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.board.escape import plain
from melp_bench.board.figures import metric_text
from melp_bench.board.sections import Column, Method, Section
from melp_bench.measure import unpack

LEVEL = 0.95
FEWEST_TASKS = 3  # that are resampled: of two, a resample is often one
SEED = 0
EVERYTHING = "all measurements"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RankedMethod:
    """A method's place over several measurements; None where it is not known."""

    label: str
    anchor: str  # its place in the page
    mean_rank: float | None
    low: float | None
    high: float | None
    best_rank: int | None  # of the rank interval
    worst_rank: int | None
    groups: str  # letters; empty where nothing is known
    cells: int
    missing: tuple[str, ...]  # measurements without a score of it


@dataclass(frozen=True)
class AggregateRank:
    """Methods over measurements, the best first; `win_rates[i][j]` is that of i against j, over `shared[i][j]` measurements."""

    title: str
    measurements: tuple[str, ...]
    metrics: tuple[str, ...]
    methods: tuple[RankedMethod, ...]
    win_rates: tuple[tuple[float | None, ...], ...]
    shared: tuple[tuple[int, ...], ...]
    tasks: int
    tasks_resampled: bool

    @property
    def missing(self) -> int:
        """How many cells are missing."""
        return sum(len(method.missing) for method in self.methods)

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


@lru_cache(maxsize=64)  # several files of a board tell them
def aggregate_ranks(section: Section) -> tuple[AggregateRank, ...]:
    """Return the ranks over all measurements, and over the tasks of each evaluation and setting that has several."""
    columns = [column for table in section.tables for column in table.columns if column.metric is not None]
    groups: dict[str, list[Column]] = defaultdict(list)
    for column in columns:
        groups[f"{column.evaluation} {column.setting}".strip()].append(column)
    found = [_ranked(title, members, section.methods) for title, members in groups.items() if len(members) > 1]
    if len(groups) > 1 and len(columns) > 1:
        found.insert(0, _ranked(EVERYTHING, columns, section.methods))
    return tuple(one for one in found if one is not None)


def _ranked(title: str, columns: Sequence[Column], methods: Sequence[Method]) -> AggregateRank | None:
    """Return the ranks of methods with a score in one of `columns`; None of fewer than two methods."""
    cells = [_cells(column) for column in columns]
    mine = [method for method in methods if any(method.anchor in column for column in cells)]
    if len(mine) < 2:
        return None
    scores, resampled = _arrays(cells, [method.anchor for method in mine])
    tasks = [column.task for column in columns]
    names = [_name(column, title) for column in columns]
    metrics = tuple(dict.fromkeys(metric_text(column.metric) for column in columns if column.metric is not None))
    weights = np.array([1 / tasks.count(task) for task in tasks])  # every task counts the same
    wins, shared = win_rates(scores, weights)
    ranks = mean_ranks(wins)
    drawn = _drawn_ranks(resampled, weights, tasks)
    apart = separable(scores, resampled, weights) if resampled is not None and len(metrics) == 1 else None
    letters = letter_groups(apart, np.nan_to_num(-ranks, nan=-np.inf)) if apart is not None else [""] * len(mine)
    order = sorted(range(len(mine)), key=lambda i: (np.isnan(ranks[i]), ranks[i], mine[i].label))
    better, worse = _separably(apart, scores, weights) if apart is not None else (None, None)
    placed = []
    for i in order:
        low, high = _interval(drawn, i, ranks[i])
        placed.append(
            RankedMethod(
                label=mine[i].label,
                anchor=mine[i].anchor,
                mean_rank=_known(ranks[i]),
                low=low,
                high=high,
                best_rank=None if better is None else 1 + int(better[i]),
                worst_rank=None if worse is None else len(mine) - int(worse[i]),
                groups=letters[i],
                cells=int((~np.isnan(scores[i])).sum()),
                missing=tuple(name for name, value in zip(names, scores[i], strict=True) if np.isnan(value)),
            )
        )
    return AggregateRank(
        title=plain(title),
        measurements=tuple(names),
        metrics=metrics,
        methods=tuple(placed),
        win_rates=tuple(tuple(None if i == j else _known(wins[i, j]) for j in order) for i in order),
        shared=tuple(tuple(int(shared[i, j]) for j in order) for i in order),
        tasks=len(set(tasks)),
        tasks_resampled=drawn is not None and len(set(tasks)) >= FEWEST_TASKS,
    )


def _name(column: Column, title: str) -> str:
    return column.task if title != EVERYTHING else f"{column.task} {column.measurement}".strip()


def _cells(column: Column) -> dict[str, tuple[float, Floats | None]]:
    """Return score and resamples, larger is better, of every method of a column that was scored on the same records as most."""
    sign = 1.0 if column.metric is None or column.metric.higher_is_better else -1.0
    outcomes = {a: cell.record.outcome for a, cell in column.cells.items() if cell.score(column.primary) is not None}
    kept = {anchor: outcome.resamples for anchor, outcome in outcomes.items() if outcome is not None}
    origins = Counter(one.origin for one in kept.values() if one is not None)
    most = max(origins, key=lambda origin: (origins[origin], origin), default=None)
    found: dict[str, tuple[float, Floats | None]] = {}
    for anchor, one in kept.items():
        if one is not None and one.origin != most:
            continue  # other records: not to be compared
        score = column.cells[anchor].score(column.primary)
        if score is not None:
            found[anchor] = sign * score.value, None if one is None else sign * unpack(one.values)
    return found


def _arrays(cells: Sequence[dict[str, tuple[float, Floats | None]]], anchors: Sequence[str]) -> tuple[Floats, Floats | None]:
    """Return scores (M, T) and resamples (R, M, T), NaN where a cell is missing; no resamples where a cell has none."""
    scores = np.full((len(anchors), len(cells)), np.nan)
    drawn = [one for column in cells for _, one in column.values()]
    resamples = min((len(one) for one in drawn if one is not None), default=0)
    usable = resamples > 1 and all(one is not None for one in drawn)
    resampled = np.full((resamples, *scores.shape), np.nan) if usable else None
    for t, column in enumerate(cells):
        for i, anchor in enumerate(anchors):
            if anchor in column:
                value, values = column[anchor]
                scores[i, t] = value
                if resampled is not None and values is not None:
                    resampled[:, i, t] = np.where(np.isnan(values[:resamples]), value, values[:resamples])
    return scores, resampled


def win_rates(scores: Floats, weights: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the win rate of each method of `scores` (..., M, T) against each, (..., M, M), and how many tasks they share.

    `weights` (T,) or (..., T) say how much a measurement counts. NaN where two share none, or none that counts.
    """
    shape = (*scores.shape[:-2], scores.shape[-2], scores.shape[-2])
    wins, total, shared = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=np.int64)
    for t in range(scores.shape[-1]):
        one, two = scores[..., :, None, t], scores[..., None, :, t]
        both = ~np.isnan(one) & ~np.isnan(two)
        weight = weights[..., t, None, None]
        wins += weight * np.where(both, (one > two) + 0.5 * (one == two), 0.0)
        total += weight * both
        shared += both
    rates: Floats = np.divide(wins, total, out=np.full(shape, np.nan), where=total > 0)
    return rates, shared


def mean_ranks(wins: Floats) -> Floats:
    """Return the mean ranks (..., M) that win rates (..., M, M) make; NaN where a method has none against another."""
    losses = 1 - wins
    index = np.arange(wins.shape[-1])
    losses[..., index, index] = 0.0
    ranks: Floats = 1 + losses.sum(axis=-1)
    return ranks


def _drawn_ranks(resampled: Floats | None, weights: Floats, tasks: Sequence[str]) -> Floats | None:
    """Return the mean ranks of every resample of patients and, where there are enough, of tasks, shape (R, M)."""
    if resampled is None:
        return None
    names, place = np.unique(np.array(tasks), return_inverse=True)
    times = np.ones((len(resampled), len(names)))
    if len(names) >= FEWEST_TASKS:
        drawn = np.random.default_rng(SEED).integers(len(names), size=times.shape)
        times = np.stack([np.bincount(row, minlength=len(names)) for row in drawn]).astype(np.float64)
    return mean_ranks(win_rates(resampled, weights * times[:, place])[0])


def differences_over_tasks(scores: Floats, weights: Floats) -> Floats:
    """Return the mean difference over shared tasks of each pair, (..., M, M), of `scores` (..., M, T)."""
    shape = (*scores.shape[:-2], scores.shape[-2], scores.shape[-2])
    sums, total = np.zeros(shape), np.zeros(shape)
    for t in range(scores.shape[-1]):
        difference = scores[..., :, None, t] - scores[..., None, :, t]
        both = ~np.isnan(difference)
        sums += weights[t] * np.where(both, difference, 0.0)
        total += weights[t] * both
    found: Floats = np.divide(sums, total, out=np.full(shape, np.nan), where=total > 0)
    return found


def separable(scores: Floats, resampled: Floats, weights: Floats, level: float = LEVEL) -> NDArray[np.bool_]:
    """Return which pairs (M, M) of methods differ, all at once, given scores (M, T) and resamples (R, M, T)."""
    value, drawn = differences_over_tasks(scores, weights), differences_over_tasks(resampled, weights)
    upper = np.triu_indices(len(scores), 1)
    value, drawn = value[upper], drawn[(slice(None), *upper)]  # (P,), (R, P)
    error = drawn.std(axis=0, ddof=1)
    usable = np.isfinite(error) & (error > 0)
    found = np.zeros((len(scores), len(scores)), dtype=bool)
    apart = np.isfinite(value) & (value != 0) & (error == 0)
    if usable.any():
        largest = (np.abs(drawn[:, usable] - drawn[:, usable].mean(axis=0)) / error[usable]).max(axis=1)
        apart[usable] = np.abs(value[usable]) > np.quantile(largest, level) * error[usable]
    found[upper] = apart
    both: NDArray[np.bool_] = found | found.T
    return both


def _separably(apart: NDArray[np.bool_], scores: Floats, weights: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many methods are separably better, and worse, than each."""
    difference = np.nan_to_num(differences_over_tasks(scores, weights))
    return (apart & (difference < 0)).sum(axis=1), (apart & (difference > 0)).sum(axis=1)


def letter_groups(apart: NDArray[np.bool_], goodness: Floats) -> list[str]:
    """Return the letters of each method: two share one if, and only if, they are not separable; "a" has the best."""
    groups = [frozenset(range(len(apart)))]
    for i, j in zip(*np.nonzero(np.triu(apart)), strict=True):
        split = [part for group in groups for part in ((group - {i}, group - {j}) if {i, j} <= group else (group,))]
        split = list(dict.fromkeys(split))
        groups = [one for one in split if not any(one < other for other in split)]
    groups.sort(key=lambda group: sorted(-goodness[i] for i in group))
    names = [*ascii_lowercase, *(a + b for a in ascii_lowercase for b in ascii_lowercase)]
    joint = "" if len(groups) <= len(ascii_lowercase) else " "
    return [joint.join(name for name, group in zip(names, groups, strict=False) if i in group) for i in range(len(apart))]


def _interval(drawn: Floats | None, method: int, value: float) -> tuple[float | None, float | None]:
    if drawn is None or np.isnan(value) or np.isnan(drawn[:, method]).all():
        return None, None
    low, high = np.nanquantile(drawn[:, method], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return min(float(low), float(value)), max(float(high), float(value))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
