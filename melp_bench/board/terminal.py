"""The board in a terminal of 80 columns: one small table per measurement."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from melp_bench.board.plots import spoken
from melp_bench.board.sections import GENERATED_NOTE, METRICS, Column, Section, Table, build_board
from melp_bench.results import ResultRecord

WIDTH = 78


def terminal_tables(records: Iterable[ResultRecord], metric: str = "auroc") -> list[RichTable]:
    """Return a table per section, task and measurement: rank, model, score [low, high], mark; reasons where unscored."""
    return [
        _table(section, table, column, metric, noted=table is section.tables[0] and column is table.columns[0])
        for section in build_board(records)
        for table in section.tables
        for column in table.columns
    ]


def _table(section: Section, table: Table, column: Column, metric: str, *, noted: bool) -> RichTable:
    heading = column.label if table.title == "transfer" else f"{column.label} · {table.title}"
    title = Text(f"{heading} · {METRICS[metric]}", style="bold")
    if section.generated:
        title.append(f"\n{GENERATED_NOTE}" if noted else " (synthetic)", style="yellow not bold")
    drawn = RichTable(
        title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, show_header=False, width=WIDTH, pad_edge=False
    )
    drawn.add_column("rank", justify="right", width=3, no_wrap=True)
    drawn.add_column("model", ratio=3, overflow="fold")
    drawn.add_column(METRICS[metric], ratio=4, overflow="fold")
    drawn.add_column("mark", width=6, no_wrap=True)
    labels = {method.anchor: method.label for method in table.methods}
    scored = [(anchor, cell) for anchor, cell in column.cells.items() if metric in cell.standings]
    for anchor, cell in sorted(scored, key=lambda pair: (-pair[1].record.outcome.scores[metric].value, labels[pair[0]])):  # type: ignore[union-attr]
        standing, score = cell.standings[metric], cell.score(metric)
        if score is not None:
            style = "bold" if standing.best else ""
            mark = "≈ best" if standing.best and not standing.leads else ""
            drawn.add_row(Text(str(standing.rank)), Text(labels[anchor], style), Text(spoken(score), style), Text(mark, "cyan"))
    for anchor in sorted(set(column.cells) - {anchor for anchor, _ in scored}, key=labels.__getitem__):
        drawn.add_row(Text("-"), Text(labels[anchor], "dim"), Text(column.cells[anchor].reason, "dim"), Text(""))
    return drawn
