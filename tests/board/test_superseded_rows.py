"""Rows of older code: kept, counted, and in no table; and where a reader sees which code made a row."""

from __future__ import annotations

import csv
import io

import pytest
from board_rows import row, score

from melp_bench.board import board_files, terminal_tables
from melp_bench.board.arrangement import build_board
from melp_bench.board.card import cards
from melp_bench.results import ResultRecord

NEW, OLD = {"encoder a": "1" * 64}, {"encoder a": "2" * 64}


def made(code: dict[str, str], value: float, day: int, model: str = "a") -> ResultRecord:
    return row(model, auroc=score(value, 0.01), code=code, created=f"2026-11-{day}T00:00:00Z")


def test_the_latest_row_of_two_that_differ_by_code_alone_is_the_one_on_the_board() -> None:
    rows = [made(OLD, 0.95, 20), made(NEW, 0.6, 21), made(NEW, 0.7, 21, "b")]
    (section,) = build_board(rows)
    assert [(m.label, len(m.records)) for m in section.methods] == [("a", 1), ("b", 1)]
    values = {m.label: section.tables[0].columns[0].cells[m.anchor].score("auroc") for m in section.methods}
    assert {name: found.value for name, found in values.items() if found} == {"a": 0.6, "b": 0.7}
    assert section.superseded == 1
    files = {name: content.decode() for name, content in board_files(rows).items()}
    assert "1 row of older code is kept, and left out." in files["README.md"]
    assert "1 row of older code is kept, and left out." in files["index.html"]
    assert all("0.95" not in files[name] for name in ("README.md", "index.html", "board.csv", "board.tex"))
    assert len(list(csv.DictReader(io.StringIO(files["board.csv"])))) == 2
    assert "1 row of older code is kept, and left out" in str(terminal_tables(rows)[0].title)


def test_a_board_without_older_rows_says_nothing_of_them() -> None:
    assert b"older code" not in b"".join(board_files([made(NEW, 0.6, 21)]).values())
    assert build_board([made({"encoder a": str(k) * 64}, 0.6, 20 + k) for k in range(4)])[0].left_out == (
        "3 rows of older code are kept, and left out"
    )


@pytest.mark.parametrize("part", ["metric auroc", "evaluation zero_shot"])
def test_rows_measured_by_other_code_of_a_metric_or_an_evaluation_are_never_compared(part: str) -> None:
    rows = [made({part: "1" * 64}, 0.9, 20, "a"), made({part: "2" * 64}, 0.7, 20, "b")]
    (table,) = build_board(rows)[0].tables
    assert [column.label for column in table.columns] == ["zero-shot", "zero-shot #2"]
    assert all(cell.standings["auroc"].rank == 1 for column in table.columns for cell in column.cells.values())


def test_models_of_different_code_are_compared() -> None:
    (table,) = build_board([made(OLD, 0.9, 20, "a"), made(NEW, 0.7, 20, "b")])[0].tables
    assert len(table.columns) == 1


def test_a_card_says_by_which_code_its_rows_were_made() -> None:
    (section,) = build_board([made(NEW | {"metric auroc": "3" * 64}, 0.6, 21), made(NEW, 0.7, 21, "b")])
    assert cards(section, {m.anchor for m in section.methods})[0].code == (("encoder a", "1" * 12), ("metric auroc", "3" * 12))
    page = board_files(section.records)["index.html"].decode()
    assert f"encoder a {'1' * 12}, metric auroc {'3' * 12}." in page


def test_a_model_is_told_of_by_a_row_that_was_scored() -> None:
    refused = [row("a", setting=f"{k}", reason="needs a text encoder", facts={}) for k in range(6)]
    (section,) = build_board([*refused, made(NEW, 0.6, 21)])
    assert section.methods[0].fact("parameters") == 5_234_112
    assert section.methods[0].corpora == ["mimic-iv-ecg"]
    assert ("parameters", "5,234,112") in cards(section, {m.anchor for m in section.methods})[0].facts


def test_a_model_is_compared_with_the_one_that_stands_first() -> None:
    (section,) = build_board([made(NEW, 0.6, 21), made(NEW, 0.7, 21, "b")])
    assert [card.reference for card in cards(section, {m.anchor for m in section.methods})] == ["b", ""]
    (section,) = build_board([made(NEW, 0.6, 21)])
    (alone,) = cards(section, {m.anchor for m in section.methods})
    assert all(line.reference is None for line in alone.recipe)
