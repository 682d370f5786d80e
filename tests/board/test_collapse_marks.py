"""A method whose pretraining shows signs of collapse is marked wherever it stands, and nobody else is."""

from __future__ import annotations

import pytest
from board_rows import row, score
from rich.console import Console

from melp_bench.board import terminal_tables
from melp_bench.board.arrangement import build_board
from melp_bench.board.html import render_pages
from melp_bench.board.markdown import render_markdown
from melp_bench.board.sections import COLLAPSE_NOTE
from melp_bench.board.typeset import render_latex
from melp_bench.results import ResultRecord

SIGN = "embeddings of records point one way (variance 3.0e-05 of 1)"


def rows(collapse: object) -> list[ResultRecord]:
    good = {"corpora": ["mine"], "pretraining": {}}
    return [
        row("melp", auroc=score(0.9, 0.01), facts=good),
        row("byol", auroc=score(0.5, 0.01), facts=good | {"collapse": collapse}),
    ]


def marked(text: str, sign: str) -> dict[str, bool]:
    """Return by method whether the line of its scores has the mark."""
    lines = [line for line in text.splitlines() if "0.9" in line or "0.5" in line]
    return {name: any(name in line and sign in line for line in lines) for name in ("melp", "byol")}


def test_every_form_of_the_board_marks_it_and_says_what_the_mark_is() -> None:
    board, console = build_board(rows([SIGN])), Console(width=80, record=True, file=None, quiet=False)
    markdown, latex, page = render_markdown(board), render_latex(board), render_pages(board)["index.html"]
    assert marked(markdown, "‡") == {"melp": False, "byol": True}
    assert f"‡ : {COLLAPSE_NOTE}. byol: {SIGN}." in markdown
    assert marked(latex, "ddagger") == {"melp": False, "byol": True}
    assert f"$\\ddagger$: {COLLAPSE_NOTE}." in latex
    assert page.count(f'title="{COLLAPSE_NOTE}: {SIGN}">‡</span>') == 3, "in the overview, in the table, and on the card"
    assert f"{COLLAPSE_NOTE}. byol: {SIGN}." in page
    with console.capture() as shown:
        for table in terminal_tables(rows([SIGN])):
            console.print(table)
    assert marked(shown.get(), "‡") == {"melp": False, "byol": True}
    assert "signs of collapse" in shown.get()


@pytest.mark.parametrize("collapse", [[], None, "yes", {"a": 1}])
def test_without_a_sign_no_board_knows_of_the_mark(collapse: object) -> None:
    board = build_board(rows(collapse))
    for text in (render_markdown(board), render_latex(board), render_pages(board)["index.html"]):
        assert "‡" not in text
        assert "ddagger" not in text
        assert COLLAPSE_NOTE not in text


def test_a_sign_is_escaped() -> None:
    page = render_pages(build_board(rows(["<script>alert(1)</script>"])))["index.html"]
    assert "<script>alert(1)" not in page
