"""The first table of a section: methods down, every measurement across, with mean ranks, groups and what a method costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from melp_bench.board.aggregate_ranks import AggregateRank, RankedMethod, aggregate_ranks
from melp_bench.board.figures import metric_text, spoken, triple
from melp_bench.board.sections import Column, Method, Section, Table
from melp_bench.board.statistics import mean_wins, rank_span, rank_title


@dataclass(frozen=True)
class Heading:
    """A table of the section above its measurements."""

    title: str
    anchor: str
    measurements: tuple[str, ...]
    first: tuple[str, ...]  # whether the best of each measurement is first when "ascending" or "descending"


@dataclass(frozen=True)
class PlaceCell:
    """How a method scores in one measurement: `rank` is None where nothing was scored, and `text` says why.

    Attributes:
        value: the score, None where there is none.
        shown: the score as text.
        text: the score with its interval and rank.
    """

    rank: int | None
    value: float | None
    shown: str
    best: bool
    leaks: bool
    text: str


@dataclass(frozen=True)
class OverviewRow:
    """One method; `ranked` is None where fewer than two methods or measurements can be ranked."""

    method: Method
    ranked: RankedMethod | None
    span: str  # "1 to 3"
    cells: tuple[PlaceCell, ...]
    bar: tuple[float, float, float] | None  # low, value and high of the mean rank, in percent of the scale

    @property
    def drawn(self) -> float | None:
        """How many records its pretraining drew, those that came again counted again: steps times batch."""
        made = self.method.told_by.facts.get("pretraining")
        steps, batch = (made.get(name) for name in ("steps", "batch_size")) if isinstance(made, dict) else (None, None)
        if not isinstance(steps, int) or not isinstance(batch, int) or steps * batch <= 0:
            return None
        return float(steps * batch)


@dataclass(frozen=True)
class WinRates:
    """How often each method of some measurements scores better than each other, beside its ranks; the best first."""

    ranks: AggregateRank
    title: str
    rows: tuple[tuple[RankedMethod, str, str, str, tuple[str, ...]], ...]  # rank interval, wins, cells, rate against each


@dataclass(frozen=True)
class Overview:
    """The whole table, its rows in the order of their mean ranks."""

    headings: tuple[Heading, ...]
    rows: tuple[OverviewRow, ...]
    ranks: tuple[WinRates, ...]

    @property
    def grouped(self) -> bool:
        """Whether it is known which methods are not separable: not where measurements are ranked by different metrics."""
        return any(row.ranked is not None and row.ranked.groups for row in self.rows)


def overview(section: Section) -> Overview:
    """Return the overview of a section."""
    found = aggregate_ranks(section)
    placed = {method.anchor: method for method in found[0].methods} if found else {}
    columns = [column for table in section.tables for column in table.columns]
    rows = [_row(method, placed.get(method.anchor), columns, len(placed)) for method in section.methods]
    place_of = {anchor: place for place, anchor in enumerate(placed)}
    rows.sort(key=lambda row: (place_of.get(row.method.anchor, len(place_of)), row.method.label))
    return Overview(tuple(_headings(section)), tuple(rows), tuple(_win_rates(ranks) for ranks in found))


def _headings(section: Section) -> list[Heading]:
    return [
        Heading(table.title, f"{section.anchor}-t{number}", tuple(_names(table)), tuple(map(_first, table.columns)))
        for number, table in enumerate(section.tables, 1)
    ]


def _first(column: Column) -> str:
    return "ascending" if column.metric is not None and not column.metric.higher_is_better else "descending"


def _names(table: Table) -> list[str]:
    return [column.measurement for column in table.columns]


def _row(method: Method, ranked: RankedMethod | None, columns: Sequence[Column], ranks: int) -> OverviewRow:
    cells = tuple(_place(column, method) for column in columns)
    span = rank_span(ranked) if ranked is not None else "–"
    return OverviewRow(method, ranked, span, cells, _bar(ranked, ranks))


def _bar(ranked: RankedMethod | None, ranks: int) -> tuple[float, float, float] | None:
    if ranked is None or ranked.mean_rank is None or ranked.low is None or ranked.high is None or ranks < 2:
        return None
    low, value, high = (round(100 * (rank - 1) / (ranks - 1), 1) for rank in (ranked.low, ranked.mean_rank, ranked.high))
    return low, value, high


def _place(column: Column, method: Method) -> PlaceCell:
    cell = column.cells.get(method.anchor)
    if cell is None:
        return PlaceCell(None, None, "–", best=False, leaks=False, text="not run")
    score = cell.score(column.primary)
    if score is None or column.metric is None or column.primary is None:
        return PlaceCell(None, None, "–", best=False, leaks=False, text=f"not applicable: {cell.reason}")
    standing = cell.standings[column.primary]
    text = f"{metric_text(column.metric)} {spoken(score, column.metric)}, rank {standing.rank}"
    if cell.leaks:
        text += f"; {', '.join(cell.leaks)}: {cell.overlap}"
    shown = triple(score, column.metric)[0]
    return PlaceCell(standing.rank, score.value, shown, standing.best, bool(cell.leaks), text)


def _win_rates(ranks: AggregateRank) -> WinRates:
    rows = []
    for place, method in enumerate(ranks.methods):
        rates = tuple(
            "" if i == place else "–" if rate is None else f"{100 * rate:.0f}" for i, rate in enumerate(ranks.win_rates[place])
        )
        cells = f"{method.cells} of {len(ranks.measurements)}"
        rows.append((method, rank_span(method), mean_wins(ranks, place), cells, rates))
    return WinRates(ranks, rank_title(ranks), tuple(rows))
