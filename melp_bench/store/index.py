"""The index of a store: what is known of each record, as rows; their digest and their file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from melp_bench.canonical import canonical_json
from melp_bench.home import atomic_write

SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("patient_id", pa.string()),
        ("statements", pa.list_(pa.string())),
        ("report", pa.string()),
        ("age", pa.float64()),
        ("sex", pa.string()),
        ("fold", pa.int8()),
        ("rate_hz", pa.float64()),
        ("leads", pa.list_(pa.string())),
        ("num_samples", pa.int64()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("gains", pa.list_(pa.float32())),
        ("flat_leads", pa.int16()),
        ("missing_samples", pa.int64()),
        ("verdict", pa.string()),
        ("repairs", pa.list_(pa.string())),
        ("quality_flags", pa.list_(pa.string())),
        ("measurements", pa.map_(pa.string(), pa.float64())),
        ("path", pa.string()),
    ]
)
QUARANTINE = pa.schema([("record_id", pa.string()), ("code", pa.string()), ("detail", pa.string())])


JUDGED = ("quality_flags",)
"""Columns that are this version's opinion of a record and nothing of the record itself: a better rule makes no other data."""


def index_digest(rows: Sequence[Mapping[str, Any]], *, judged: bool = True) -> str:
    """Return the SHA-256 of the rows of an index, whatever file format they come from; without `judged`, of what is data."""
    columns = [name for name in SCHEMA.names if judged or name not in JUDGED]
    sha = hashlib.sha256()
    for row in rows:
        sha.update(canonical_json([row[column] for column in columns]).encode())
    return sha.hexdigest()


def write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Write rows to a Parquet file, whole or not at all."""
    for row in rows:
        if "measurements" in row:
            row["measurements"] = [tuple(pair) for pair in row["measurements"]]  # JSON knows no tuples, a map wants them
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    atomic_write(path, sink.getvalue().to_pybytes())
