"""Tables that fit 80 columns, and what they become where there are fewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from melp_bench.board.score_moves import MovesPage
    from melp_bench.testing.verdict import Verdict

FOLDED = 10
"""What a column of words is folded to, at the least."""


def kind_table(title: str, rows: Sequence[tuple[str, str, str, str]]) -> Table:
    """Return a table of components: name, summary, the distribution of its plugin, licence."""
    table = Table(title=f"{title} ({len(rows)})", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", style="bold", no_wrap=True)  # to be copied
    table.add_column("summary", overflow="fold", ratio=1)
    table.add_column("from", style="dim", overflow="fold", max_width=13)
    table.add_column("licence", style="dim", overflow="fold", max_width=12)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def broken_table(rows: Sequence[tuple[str, str, str]]) -> Table:
    """Return a table of plugins that failed: name, distribution, reason."""
    table = Table(title=f"broken plugins ({len(rows)})", title_justify="left", title_style="red", box=box.SIMPLE_HEAD)
    table.add_column("plugin", style="bold", overflow="fold", max_width=22)
    table.add_column("from", style="dim", overflow="fold", max_width=18)
    table.add_column("reason", overflow="fold", ratio=1)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Return a line per property: a tick, or a cross and the numbers that broke it."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=46)
    table.add_column(overflow="fold", style="dim")
    for verdict in verdicts:
        mark, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("-", "dim")}[verdict.ok]
        detail = Text(verdict.detail, "red" if verdict.ok is False else "")
        table.add_row(Text(f"  {mark}", style), Text(verdict.property), detail)
    return table


def facts_table(title: str, facts: Sequence[tuple[str, str]]) -> Table:
    """Return a table of facts by name; what is empty is left out."""
    table = Table(
        title=Text(title), title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2, 0, 0)
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            table.add_row(Text(name), Text(value))
    table.add_row("", "")
    return table


def move_tables(page: MovesPage) -> list[Table]:
    """Return a table per group of a page: what moves where."""
    from melp_bench.board.escape import plain
    from melp_bench.board.figures import metric_text

    tables, several = [], len({row.metric.label for row in page.rows if row.metric is not None}) > 1
    for name, rows in page.groups.items():
        table = Table(title=Text(plain(name)), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("task", overflow="fold", ratio=1)
        table.add_column("measured by", overflow="fold", ratio=1)
        table.add_column("points", justify="right", no_wrap=True)
        for row in rows:
            style = "bold" if row.difference is not None and row.difference.separable else ""
            measured = f"{row.where}, {metric_text(row.metric)}" if several and row.metric is not None else row.where
            table.add_row(Text(plain(row.task)), Text(measured), Text(row.told, style))
        tables.append(table)
    return tables


def print_whole(console: Console, table: Table) -> None:
    """Print a table, or where the console is too narrow for its numbers, each row as lines of "column  cell"."""
    if _needed(table, console) <= console.width:
        console.print(table)
        return
    if table.title:
        console.print(table.title)
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(style="dim", overflow="fold", max_width=console.width // 2)
    lines.add_column(overflow="fold")
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        for column, cell in zip(table.columns, cells, strict=True):
            lines.add_row(column.header, cell)
        lines.add_row("", "")
    console.print(lines)


def _needed(table: Table, console: Console) -> int:
    """Return how many columns of a terminal a table needs so that no number is cut: of a text only its longest word."""
    total = 0
    for column in table.columns:
        sizes = [Measurement.get(console, console.options, cell) for cell in (column.header, *column.cells)]
        shortest = max(size.maximum if column.no_wrap else min(size.minimum, FOLDED) for size in sizes)
        total += max(min(shortest, column.max_width or shortest), column.min_width or 0) + 2
    return total
