"""The index of a store: what is known of each record, as rows; their digest and their file, neither of which holds all rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from melp_bench.canonical import canonical_json
from melp_bench.home import commit, temporary_path, unwritable

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
GROUP = 16_384
"""Rows that are held in memory at a time."""
JUDGED = ("quality_flags",)
"""Columns that are this version's opinion of a record and nothing of the record itself: a better rule makes no other data."""


class IndexDigests:
    """The SHA-256 of the rows of an index as they come, whatever file format they come from, and of what in them is data."""

    def __init__(self) -> None:
        self._sums = {judged: hashlib.sha256() for judged in (True, False)}
        self._columns = {judged: [name for name in SCHEMA.names if judged or name not in JUDGED] for judged in (True, False)}

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count the next rows in."""
        for row in rows:
            for judged, columns in self._columns.items():
                self._sums[judged].update(canonical_json([row[column] for column in columns]).encode())

    @property
    def index(self) -> str:
        """The digest of the rows so far."""
        return self._sums[True].hexdigest()

    @property
    def data(self) -> str:
        """The digest of what is data in the rows so far."""
        return self._sums[False].hexdigest()


class TableWriter:
    """A Parquet file that is written some rows at a time, and is there whole or, where the block is left by an error, not."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema, self._temporary = path, schema, temporary_path(path)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> TableWriter:
        try:
            self._file = self._temporary.open("wb")
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        return self

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Write rows, in groups of `GROUP` and more."""
        self._rows += rows
        if len(self._rows) >= GROUP:
            self._write()

    def _write(self) -> None:
        for row in self._rows:
            if "measurements" in row:
                row["measurements"] = [tuple(pair) for pair in row["measurements"]]  # JSON knows no tuples, a map wants them
        try:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._rows = []

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._write()
            self._writer.close()
            self._file.flush()
            if kind is None:
                commit(self._file.fileno(), self._temporary, self._path)
        except OSError as refused:
            raise unwritable(self._path, refused) from refused
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)


def rows_of(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a Parquet file, some at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(GROUP):
            yield batch.to_pylist()
