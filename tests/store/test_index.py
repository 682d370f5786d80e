"""The index is written and digested some rows at a time, and is what all rows at once would be."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from melp_bench.canonical import canonical_json
from melp_bench.errors import UserError
from melp_bench.store import index as module
from melp_bench.store.index import JUDGED, QUARANTINE, SCHEMA, IndexDigests, TableWriter, rows_of


def row(number: int) -> dict[str, Any]:
    """Return a row of the index as a shard's file has it."""
    return {
        "record_id": f"r{number}", "patient_id": None if number % 3 else f"p{number}", "statements": ["A", f"S{number}"],
        "report": f"report {number}", "age": None if number % 2 else 50.5, "sex": "F", "fold": 1 + number % 10,
        "rate_hz": 500.0,
        "leads": ["I", "II"], "num_samples": 5000, "shard": number // 4, "offset": 10_000 * (number % 4), "gains": [0.5, 0.25],
        "flat_leads": 0, "missing_samples": 0, "verdict": "ok", "repairs": [], "quality_flags": [f"flag {number}"],
        "measurements": [["qrs_duration", 90.0 + number]], "path": f"files/{number}",
    }  # fmt: skip


ROWS = [row(number) for number in range(23)]


def one_by_one(path: Path, rows: list[dict[str, Any]]) -> IndexDigests:
    """Write rows a few at a time, and return their digests."""
    digests = IndexDigests()
    with TableWriter(path, SCHEMA) as writer:
        for start in range(0, len(rows), 4):
            some = [dict(one) for one in rows[start : start + 4]]
            digests.add(some)
            writer.add(some)
    return digests


@pytest.mark.parametrize("group", [1, 5, 16_384])
def test_rows_that_come_in_groups_are_the_table_and_digests_of_all_at_once(
    group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP", group)
    digests = one_by_one(tmp_path / "index.parquet", ROWS)
    whole = pa.Table.from_pylist(
        [{**one, "measurements": [tuple(p) for p in one["measurements"]]} for one in ROWS], schema=SCHEMA
    )
    assert pq.read_table(tmp_path / "index.parquet").equals(whole)
    for judged, found in ((True, digests.index), (False, digests.data)):
        columns = [name for name in SCHEMA.names if judged or name not in JUDGED]
        text = "".join(canonical_json([one[column] for column in columns]) for one in ROWS)
        assert found == hashlib.sha256(text.encode()).hexdigest()
    again = IndexDigests()
    for rows in rows_of(tmp_path / "index.parquet"):
        assert len(rows) <= max(group, 1)
        again.add(rows)
    assert (again.index, again.data) == (digests.index, digests.data)


def test_a_flag_moves_the_index_and_not_the_data(tmp_path: Path) -> None:
    flagged = [{**one, "quality_flags": []} for one in ROWS]
    one, other = one_by_one(tmp_path / "a.parquet", ROWS), one_by_one(tmp_path / "b.parquet", flagged)
    assert one.data == other.data
    assert one.index != other.index


def test_a_table_without_rows_is_a_table(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "quarantine.parquet", QUARANTINE):
        pass
    assert pq.read_table(tmp_path / "quarantine.parquet").schema.equals(QUARANTINE)


def test_an_error_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    one_by_one(tmp_path / "index.parquet", ROWS)
    had = (tmp_path / "index.parquet").read_bytes()

    def written_halfway() -> None:
        with TableWriter(tmp_path / "index.parquet", SCHEMA) as writer:
            writer.add([dict(one) for one in ROWS])
            raise UserError("no record can be used")

    with pytest.raises(UserError, match="no record can be used"):
        written_halfway()
    assert (tmp_path / "index.parquet").read_bytes() == had
    assert [path.name for path in tmp_path.iterdir()] == ["index.parquet"]
