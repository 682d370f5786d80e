"""Tables of any command in a narrow terminal: every number is whole, every cell is there."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from melp_bench.cli.tables import print_whole

NUMBERS = [[f"{17 * (row + 1) ** column:,}.{row}{column}" for column in range(7)] for row in range(4)]


def table() -> Table:
    made = Table(title="speeds")
    made.add_column("encoder", overflow="fold", max_width=22)
    for column in range(7):
        made.add_column(f"c{column}", justify="right", no_wrap=True)
    for row, numbers in enumerate(NUMBERS):
        made.add_row(f"encoder-with-a-long-name-{row}", *numbers)
    return made


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 90, 120])
def test_no_number_is_cut(width: int) -> None:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    print_whole(console, table())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    found = set(re.findall(r"[\d,]+\.\d\d", text))
    assert found == {number for row in NUMBERS for number in row}


def test_where_there_is_room_a_table_stays_one() -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    print_whole(console, table())
    assert "┃" in console.file.getvalue()  # type: ignore[attr-defined]
