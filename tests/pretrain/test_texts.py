"""Reports from files: every kind gives its own, and what holds none is told in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from melp_bench.errors import UserError
from melp_bench.pretrain.texts import read_reports, split_by_text


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": ["c one", None, " "], "other": ["x", "y", "z"]}), path)


def test_every_kind_of_file_gives_its_reports_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a one\n\n a two \n")
    (tmp_path / "b.jsonl").write_text('{"report": "b one", "text": "not this"}\n\n{"report": null}\n{"report": "b two"}\n')
    (tmp_path / "sub").mkdir()
    write_parquet(tmp_path / "sub" / "c.parquet")
    (tmp_path / "notes.md").write_text("no report")
    assert read_reports(tmp_path) == ["a one", "a two", "b one", "b two", "c one"]


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("absent", lambda p: None, "no reports at"),
        ("x.csv", lambda p: p.write_text("a"), "no kind that we read"),
        ("x.txt", lambda p: p.write_text("\n \n"), "no report in"),
        ("x.txt", lambda p: p.write_bytes(b"\xff\xfe\x00"), "not UTF-8"),
        ("x.jsonl", lambda p: p.write_text('{"a": 1}'), "has no 'report or text'"),
        ("x.jsonl", lambda p: p.write_text('{"text": 1}'), "wanted text"),
        ("x.jsonl", lambda p: p.write_text('["a"]'), "is no row"),
        ("x.parquet", lambda p: pq.write_table(pa.table({"report": [1, 2]}), p), "'report' holds int64; wanted text"),
        ("x.jsonl", lambda p: p.write_text("{"), "line 1: not JSON"),
        ("x.parquet", lambda p: p.write_text("nothing"), "cannot be read as Parquet"),
    ],
)
def test_files_that_hold_no_reports_are_told_in_one_line(
    tmp_path: Path, name: str, write: Callable[[Path], object], said: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(UserError, match=said) as caught:
        read_reports(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_copies_of_a_report_stand_on_one_side() -> None:
    texts = [f"report {i % 500}" for i in range(2000)]
    train_on, held = split_by_text(texts)
    assert sorted([*train_on.tolist(), *held.tolist()]) == list(range(2000))
    assert not {texts[i] for i in train_on} & {texts[i] for i in held}
    assert 0.02 < len(held) / 2000 < 0.09
