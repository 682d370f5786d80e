"""The board in a terminal of 40 columns or more: one small table per measurement.

Below `NARROW` columns a method's score stands under its name, so that no number is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from melp_bench.board.aggregate_ranks import AggregateRank, aggregate_ranks
from melp_bench.board.arrangement import build_board
from melp_bench.board.figures import metric_text, spoken
from melp_bench.board.sections import COLLAPSE_NOTE, GENERATED_NOTE, Column, Section, Table
from melp_bench.board.statistics import mean_rank, rank_span
from melp_bench.results import ResultRecord

WIDEST, LEAST = 78, 38
MOST = 300  # lines of a section in a terminal
NARROW = 60
RANK, MARK, GAPS = 3, 6, 11  # columns of the terminal: two beside ours, and what lies between all four
NUMBERS = 27  # a score with its interval is seldom wider, and what is wider gets its room


Scored = tuple[str, str, str, str | None]
"""Rank, model, score, and the mark of the best group or None outside of it."""


def terminal_tables(records: Iterable[ResultRecord], metric: str | None = None, columns: int = 80) -> list[RichTable]:
    """Return a table per section, task and measurement: rank, model, score [low, high], mark; reasons where unscored.

    Each is by its own metric that ranks, or by `metric` where its rows have that. Of a section with more lines than `MOST` the
    ranks over all measurements stand for them, unless a metric is asked for. `columns` is how wide the terminal is.
    """
    width = min(max(columns - 2, LEAST), WIDEST)
    found: list[RichTable] = []
    for section in build_board(records):
        lines = sum(len(column.cells) for table in section.tables for column in table.columns)
        if lines > MOST and metric is None and (ranks := aggregate_ranks(section)):
            found.append(_ranks(section, ranks[0], lines, width))
            continue
        found += [
            _table(section, table, column, metric, width, noted=table is section.tables[0] and column is table.columns[0])
            for table in section.tables
            for column in table.columns
        ]
    return found


def _ranks(section: Section, ranks: AggregateRank, lines: int, width: int) -> RichTable:
    """Return the methods of a large section by their mean ranks."""
    title = Text(f"{section.protocol} · mean rank over {len(ranks.measurements)} measurements of {ranks.tasks} tasks", "bold")
    told = "mean rank [interval] · rank interval" + ("; ⚠ some cells are missing" if ranks.missing else "")
    title.append(f"\n{told}\nall {lines:,} scores are in the board, and here with --metric", style="dim not bold")
    if section.generated:
        title.append(f"\n{GENERATED_NOTE}", style="yellow not bold")
    if section.left_out:
        title.append(f"\n{section.left_out}", style="not bold")
    collapses = {method.anchor for method in section.methods if method.collapse}
    if collapses:
        title.append(f"\n‡ {COLLAPSE_NOTE}", style="yellow not bold")
    drawn = RichTable(
        title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, show_header=False, width=width, pad_edge=False
    )
    scored: list[Scored] = []
    for place, method in enumerate(ranks.methods, 1):
        label = f"{method.label}{' ‡' if method.anchor in collapses else ''}"
        missing = " ⚠" if method.missing else ""
        scored.append((str(place), label, f"{mean_rank(method)} · {rank_span(method)}{missing}", None))
    drawn.add_column("rank", justify="right", width=RANK, no_wrap=True)
    if width < NARROW:
        _fill_narrow(drawn, scored, [])
    else:
        _fill_wide(drawn, scored, [], width)
    return drawn


def _table(section: Section, table: Table, column: Column, wanted: str | None, width: int, *, noted: bool) -> RichTable:
    metric = wanted if wanted in column.metrics else column.primary
    heading = f"{column.measurement} · {table.title}" if column.task == table.title else column.measurement
    title = Text(heading + (f" · {metric_text(column.metrics[metric])}" if metric is not None else ""), style="bold")
    if section.generated:
        title.append(f"\n{GENERATED_NOTE}" if noted else " (synthetic)", style="yellow not bold")
    if noted and section.left_out:
        title.append(f"\n{section.left_out}", style="not bold")
    if noted and table.collapses:
        title.append(f"\n‡ {COLLAPSE_NOTE}", style="yellow not bold")
    labels = {method.anchor: f"{method.label}{' ‡' if method.collapse else ''}" for method in table.methods}
    scored, others = _lines(column, metric, labels)
    drawn = RichTable(
        title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, show_header=False, width=width, pad_edge=False
    )
    drawn.add_column("rank", justify="right", width=RANK, no_wrap=True)
    if width < NARROW:
        _fill_narrow(drawn, scored, others)
    else:
        _fill_wide(drawn, scored, others, width)
    return drawn


def _fill_narrow(drawn: RichTable, scored: Sequence[Scored], others: Sequence[tuple[str, str]]) -> None:
    """Add a column in which the score or reason stands under the name."""
    drawn.add_column("model and score", overflow="fold", ratio=1)
    for rank, label, text, mark in scored:
        cell = Text(label, "bold" if mark is not None else "")
        cell.append(f"\n{text}").append(f" {mark}" if mark else "", "cyan")
        drawn.add_row(Text(rank), cell)
    for label, reason in others:
        drawn.add_row(Text("-"), Text(f"{label}\n{reason}", "dim"))


def _fill_wide(drawn: RichTable, scored: Sequence[Scored], others: Sequence[tuple[str, str]], width: int) -> None:
    """Add columns of names, scores or reasons, and marks."""
    widest = max([NUMBERS, *(len(part) for _, _, text, _ in scored for part in text.split("\n"))])
    room = min(widest, width - RANK - MARK - GAPS - 8)
    drawn.add_column("model", width=width - RANK - MARK - GAPS - room, overflow="fold")
    drawn.add_column("score", width=room, overflow="fold")
    drawn.add_column("mark", width=MARK, no_wrap=True)
    for rank, label, text, mark in scored:
        style = "bold" if mark is not None else ""
        drawn.add_row(Text(rank), Text(label, style), Text(text, style), Text(mark or "", "cyan"))
    for label, reason in others:
        drawn.add_row(Text("-"), Text(label, "dim"), Text(reason, "dim"), Text(""))


def _lines(column: Column, metric: str | None, labels: dict[str, str]) -> tuple[list[Scored], list[tuple[str, str]]]:
    """Return the scored rows, best first, and the others with their reason, by name."""
    scored: list[tuple[float, str, Scored]] = []
    others: list[tuple[str, str]] = []
    for anchor, cell in column.cells.items():
        score = cell.score(metric)
        if metric is None or score is None:
            others.append((labels[anchor], cell.missing(metric) if metric is not None else cell.reason))
            continue
        standing, label = cell.standings[metric], column.metrics[metric]
        mark = None if not standing.best else "" if standing.leads else "≈ best"
        seeds = cell.spread(metric)
        told = f"\n{seeds.told(label)}" if seeds is not None else ""
        line = (str(standing.rank), labels[anchor], spoken(score, label) + told, mark)
        scored.append((-score.value if label.higher_is_better else score.value, labels[anchor], line))
    return [line for _, _, line in sorted(scored, key=lambda one: one[:2])], sorted(others)
