"""The board as Parquet: the lines of the CSV, with numbers as numbers and names as they are."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
from board_rows import realistic_rows, row, score

from melp_bench.board.arrangement import build_board
from melp_bench.board.spreadsheet import render_csv, render_parquet


def test_it_holds_what_the_csv_holds_in_types() -> None:
    sections = build_board(realistic_rows())
    table = pq.read_table(pa.BufferReader(render_parquet(sections)))
    lines = list(csv.DictReader(io.StringIO(render_csv(sections))))
    assert table.num_rows == len(lines)
    assert table.column_names == list(lines[0])
    assert table.schema.field("auroc").type == pa.float64()
    assert table.schema.field("rank").type == pa.int64()
    assert table.schema.field("generated").type == pa.bool_()
    for found, line in zip(table.to_pylist(), lines, strict=True):
        assert found["key"] == line["key"]
        assert found["auroc"] == (float(line["auroc"]) if line["auroc"] else None)
        assert found["rank"] == (int(line["rank"]) if line["rank"] else None)
        assert found["in_best_group"] == {"true": True, "false": False, "": None}[line["in_best_group"]]


def test_a_name_that_a_spreadsheet_would_run_is_kept_as_it_is() -> None:
    table = pq.read_table(pa.BufferReader(render_parquet(build_board([row("=1+1", auroc=score(0.5, 0.1))]))))
    assert table["model"].to_pylist() == ["=1+1"]


def test_no_rows_are_a_table_of_none() -> None:
    assert pq.read_table(pa.BufferReader(render_parquet([]))).num_rows == 0
