"""The terminal's tables at any width from 40 columns on."""

from __future__ import annotations

import io

import pytest
from board_rows import realistic_rows, row
from rich.cells import cell_len
from rich.console import Console

from melp_bench.board import terminal_tables
from melp_bench.results import MetricLabel, Outcome, Score


@pytest.mark.parametrize("width", [40, 45, 50, 59, 60, 61, 62, 66, 72, 79, 80, 200])
def test_no_terminal_of_40_columns_or_more_cuts_a_number(width: int) -> None:
    rows = realistic_rows()
    large = MetricLabel(label="error in milliseconds", higher_is_better=False, bounds=(0.0, None))
    value = Score(value=123456.7, low=98765.4, high=234567.8)
    told = Outcome(scores={"error": value}, metrics={"error": large}, primary="error")
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    for table in terminal_tables([*rows, row("far", outcome=told)], columns=console.width):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(cell_len(line) for line in text.splitlines()) <= width
    for record in rows:
        if record.outcome:
            score = record.outcome.scores["auroc"]
            assert f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]" in text
    joined = " ".join(text.split())
    assert "123,457 [98,765, 234,568]" in joined
    assert "≈ best" in text
    assert "needs a text encoder" in joined
