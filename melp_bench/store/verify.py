"""Is a store what it was when it was made, and is it what the native files say?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from melp_bench.records import Dataset
from melp_bench.store.drift import file_drift, record_drift, unknown_records
from melp_bench.store.index import IndexDigests, rows_of
from melp_bench.store.layout import shard_path
from melp_bench.store.prepare import Progress
from melp_bench.store.record_list import list_records

if TYPE_CHECKING:
    from melp_bench.store.reader import Store


@dataclass(frozen=True)
class Verification:
    """What was looked at, and what is wrong with it; nothing is wrong where `problems` is empty."""

    num_shards: int
    num_native: int  # records read from the source again
    num_files: int  # compared with the source's own digests
    problems: tuple[str, ...]


def verify(store: Store, *, progress: Progress | None = None) -> Verification:
    """Read the whole store again and compare digests; `progress` counts shards."""
    return Verification(len(store.manifest.shards), 0, 0, tuple(_check_content(store, progress)))


def verify_source(
    store: Store, dataset: Dataset, source: Path | None, *, sample: int | None = 100, progress: Progress | None = None
) -> Verification:
    """Compare records with what `dataset` reads from `source` today, and their files with the source's own digests.

    The sample is spread evenly over the store; None takes every record. `progress` counts records.

    Raises:
        UserError: the source cannot be read.
    """
    source = source or Path()
    infos = {info.record_id: info for info in list_records(dataset, source)[0]}
    wanted = len(store) if sample is None else min(sample, len(store))
    positions = np.unique(np.linspace(0, len(store) - 1, wanted).astype(int)).tolist()
    problems = [problem for problem in [unknown_records(store, infos)] if problem is not None]
    records = [infos[record] for record in store.record_ids[positions].tolist() if record in infos]
    num_files, drift = file_drift(source, records) if dataset.reads_files else (0, [])
    problems += drift
    for done, position in enumerate(positions, start=1):
        problems += record_drift(store, position, dataset, source, infos)
        if progress is not None:
            progress(done, len(positions))
    return Verification(0, len(positions), num_files, tuple(problems))


def _check_content(store: Store, progress: Progress | None) -> list[str]:
    problems = []
    if store.manifest.sealed().fingerprint != store.fingerprint:
        problems.append("store.json: the fingerprint is not that of its content")
    digests = IndexDigests()
    for rows in rows_of(store.root / "index.parquet"):
        digests.add(rows)
    if (digests.index, digests.data) != (store.manifest.index, store.manifest.data):
        problems.append("index.parquet: the rows are not those that were written")
    for number, shard in enumerate(store.manifest.shards):
        path = shard_path(store.root, number)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            problems.append(f"shards/{path.name}: {error.strerror or error}")
        else:
            if found != shard.digest:
                problems.append(f"shards/{path.name}: the samples are not those that were written")
        if progress is not None:
            progress(number + 1, len(store.manifest.shards))
    return problems
