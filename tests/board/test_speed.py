"""Measured speeds on the board: whose they are, what tells two of them apart, and what a damaged one costs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from board_rows import realistic_rows, row, score

from melp_bench.board import board_files, stale_files, write_board
from melp_bench.board.arrangement import build_board
from melp_bench.board.speed import speed_tables, speeds_beside
from melp_bench.errors import UserError
from melp_bench.results import ResultRecord
from melp_bench.throughput.rows import SpeedRow, Work, read_speeds, write_speed


def speed(name: str = "small", rate: float = 100.0, *, layers: int = 2, threads: str = "1", batch: int = 16) -> SpeedRow:
    return SpeedRow(
        name=name, options={"layers": layers}, work=Work(batch=batch),
        environment={"device": "cpu", "device_name": "A Processor", "threads": threads, "torch": "2.15.0"},
        records_per_second=rate, records_per_second_low=0.9 * rate, records_per_second_high=1.1 * rate, seconds=[16 / rate],
        peak_bytes=123_000_000, peak_method="x", parameters=90_883_072, gflops_per_record=0.5, created="2026-11-20T09:30:00Z",
    )  # fmt: skip


def built_on(encoder: str, layers: int) -> ResultRecord:
    scored = row(f"of {encoder} {layers}", auroc=score(0.8, 0.05))
    inputs = scored.inputs.model_copy(
        update={"model": {"recipe": {"encoder": {"name": encoder, "options": {"layers": layers}}}}}
    )
    return scored.model_copy(update={"inputs": inputs, "key": inputs.key})


def test_speeds_of_two_machines_or_works_are_two_tables_fastest_first() -> None:
    rows = [speed("a", 10.0), speed("b", 30.0), speed("c", 20.0), speed("a", 5.0, threads="2"), speed("a", 7.0, batch=1)]
    tables = speed_tables(rows)
    assert [[one.name for one in table.rows] for table in tables] == [["a"], ["b", "c", "a"], ["a"]]
    assert [table.machine.split(", ")[1] for table in tables] == ["1 thread", "1 thread", "2 threads"]
    assert speed_tables(reversed(rows)) == tables


def test_only_ecg_encoders_are_on_a_board() -> None:
    rows = [
        speed("a"),
        speed("a").model_copy(update={"kind": "objective"}),
        speed("b").model_copy(update={"kind": "data path"}),
    ]
    (table,) = speed_tables(rows)
    assert list(table.rows) == rows[:1]


def test_a_speed_stands_beside_methods_of_exactly_that_encoder() -> None:
    (section,) = build_board(
        [built_on("small", 2), built_on("small", 3), built_on("other", 2), row("x", auroc=score(0.8, 0.1))]
    )
    measured = speed_tables([speed("small", layers=2), speed("unused")])
    found = {method.label: measured[0].of(method) for method in section.methods}
    assert {label for label, one in found.items() if one is not None} == {"of small 2"}
    assert speeds_beside(section.tables[0], measured) == measured
    assert speeds_beside(section.tables[0], speed_tables([speed("unused")])) == []


def test_the_board_shows_every_speed_with_its_quartiles_and_escapes_names(tmp_path: Path) -> None:
    write_speed(speed("<b>small|", 1234.0), tmp_path / "throughput")
    write_board([built_on("<b>small|", 2)], tmp_path)
    page, text = (tmp_path / "index.html").read_text(), (tmp_path / "README.md").read_text()
    assert page.count("&lt;b&gt;small|") >= 1
    assert "<b>small" not in page
    assert len(re.findall(r"1,234 <span class=\"ci\">\[1,111, 1,357\]", page)) == 2  # beside the method, and in its own table
    assert "| &lt;b&gt;small\\| | 1,234 [1,111, 1,357] | 123     | 90,883,072 | 0.5    |" in text
    assert not stale_files(board_files([built_on("<b>small|", 2)], read_speeds(tmp_path / "throughput")), tmp_path)
    assert stale_files(board_files([built_on("<b>small|", 2)]), tmp_path) == ["README.md", "index.html"]


def test_a_board_without_speeds_is_as_it_was() -> None:
    files = board_files(realistic_rows())
    assert b"Speed of encoders" not in files["index.html"] + files["README.md"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [(lambda b: b[:50], "is not a measured speed"), (lambda b: b.replace(b'"batch": 16', b'"batch": 17'), "it was edited")],
)
def test_a_damaged_speed_is_told_with_its_file(tmp_path: Path, damage: object, told: str) -> None:
    path = write_speed(speed(), tmp_path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError, match=told) as error:
        list(read_speeds(tmp_path))
    assert path.name in str(error.value)
