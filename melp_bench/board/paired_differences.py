"""Which methods differ under one measurement: their paired differences, as a staircase with the best method at its top.

Both scores of a pair were resampled with the same patients (`measure`), so what is hard about a patient cancels. Whether two
methods differ is told by p-values that are adjusted for the number of pairs of the measurement (Holm 1979); the interval of a
difference is of that pair alone.
Where a row does not hold its resamples, or they are of other records, there is no difference to show.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from melp_bench.board.escape import plain
from melp_bench.board.figures import signed, width_of
from melp_bench.board.plots import DRAWN, drawn_of
from melp_bench.board.sections import Cell, Column, Method, Table
from melp_bench.errors import UserError
from melp_bench.measure import difference
from melp_bench.metrics.paired import Difference, holm
from melp_bench.results import MetricLabel

LEVEL = 0.95
CELL, ROW, LETTER = 60.0, 34.0, 6.6  # width and height of a step, and of a letter of a name, in SVG units


@dataclass(frozen=True)
class PairDifference:
    """Two methods of a measurement, the better one first; no difference where they were not resampled alike."""

    better: str
    worse: str
    known: Difference | None
    adjusted_p: float | None  # for the pairs of the measurement

    @property
    def separable(self) -> bool:
        """Whether the two differ, given how many pairs were looked at."""
        return self.adjusted_p is not None and self.adjusted_p < 1 - LEVEL


@dataclass(frozen=True)
class PairCell:
    """One pair: what the method above it scores more than the method beside it, in the staircase's unit; None if not
    comparable."""

    x: float
    y: float
    points: str | None
    interval: str
    separable: bool
    text: str


@dataclass(frozen=True)
class Name:
    """A method at the end of its row and at the head of its column; the baseline of its first letter."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Staircase:
    """All pairs of one measurement."""

    measurement: str
    unit: str  # the metric, or hundredths of it
    names: tuple[Name, ...]
    steps: tuple[PairCell, ...]
    width: float
    height: float
    told: str  # how many pairs there are, how many of them differ, and which of them are drawn


def staircases(table: Table) -> list[Staircase]:
    """Return the paired differences of each measurement of a task, in the order of its columns; none without resamples.

    Of more than `DRAWN` methods those between the best are drawn; which differ is told, and adjusted, over all, and
    statistics.json has every pair.

    Raises:
        UserError: a row's resamples are damaged.
    """
    return [found for column in table.columns if (found := _staircase(column, table.methods)) is not None]


@lru_cache(maxsize=1024)  # several files of a board tell them
def pair_differences(column: Column, methods: tuple[Method, ...]) -> tuple[list[str], list[PairDifference]]:
    """Return the scored methods of a measurement, the best first, and every pair of them: each method with all before it.

    Raises:
        UserError: a row's resamples are damaged.
    """
    if column.metric is None:
        return [], []
    sign = -1.0 if column.metric.higher_is_better else 1.0
    label = {method.anchor: method.label for method in methods}
    kept = [(score.value, anchor, cell) for anchor, cell in column.cells.items() if (score := cell.score(column.primary))]
    kept.sort(key=lambda one: (sign * one[0], label[one[1]]))
    names = [label[anchor] for _, anchor, _ in kept]
    pairs = [(j, i, _paired(kept[j][2], kept[i][2])) for i in range(len(kept)) for j in range(i)]
    adjusted = iter(holm([known.p for _, _, known in pairs if known is not None]))
    return names, [
        PairDifference(names[j], names[i], known, next(adjusted) if known is not None else None) for j, i, known in pairs
    ]


def _staircase(column: Column, methods: tuple[Method, ...]) -> Staircase | None:
    metric = column.metric
    names, pairs = pair_differences(column, methods)
    if metric is None or all(pair.known is None for pair in pairs):
        return None
    known = [pair for pair in pairs if pair.known is not None]
    told = f"{sum(pair.separable for pair in known)} of {len(known)} pairs differ"
    told += f"; {drawn}" if (drawn := drawn_of(len(names))) else ""
    names = names[:DRAWN]
    places = [(j, i) for i in range(len(names)) for j in range(i)]
    pairs = pairs[: len(places)]  # each method with all before it: those of the best come first
    small = _is_small(metric)
    return Staircase(
        measurement=column.measurement,
        unit=("hundredths of " if small else "") + plain(metric.label),
        names=tuple(Name(i * CELL + 5, i * ROW + ROW / 2 + 4, name) for i, name in enumerate(names)),
        steps=tuple(_step(j * CELL, i * ROW, pair, in_hundredths=small) for (j, i), pair in zip(places, pairs, strict=True)),
        width=round(max(i * CELL + 10 + LETTER * len(name) for i, name in enumerate(names))),
        height=len(names) * ROW,
        told=told,
    )


def _is_small(metric: MetricLabel) -> bool:
    """Return whether the metric lies within one unit, so that hundredths of it are read more easily."""
    width = width_of(metric)
    return width is not None and width <= 2


def _paired(first: Cell, second: Cell) -> Difference | None:
    """Return the difference of two scored cells, or None where they were not resampled alike."""
    one, two = first.record.outcome, second.record.outcome
    if one is None or two is None:
        return None
    try:
        return difference(one, two, LEVEL)
    except (ValueError, TypeError, KeyError) as error:
        keys = " or ".join(cell.record.key[:16] for cell in (first, second))
        raise UserError(f"the resamples in row {keys} are damaged: {error}; delete the row and run again") from error


def _step(x: float, y: float, pair: PairDifference, *, in_hundredths: bool) -> PairCell:
    names, known = f"{pair.better} − {pair.worse}", pair.known
    if known is None or pair.adjusted_p is None:
        return PairCell(x, y, None, "", separable=False, text=f"{names}: not scored on the same records")
    numbers = (known.value, known.low, known.high)
    verdict = "they differ" if pair.separable else "not separable"
    if in_hundredths:
        value, low, high = (signed(number, 3) for number in numbers)
        points, *ends = (signed(100 * number, 1) for number in numbers)
    else:
        value, low, high = points, *ends = (f"{number:.3g}".replace("-", "−") for number in numbers)
    told = f"{names}: {value} [{low}, {high}], {p_text(pair.adjusted_p)}, {verdict}"
    return PairCell(x, y, points, f"[{', '.join(ends)}]", pair.separable, told)


def p_text(p: float) -> str:
    """Return a p-value as text."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
