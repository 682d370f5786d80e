"""Is a store what it was when it was made, and is it what the native files say?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from melp_bench.records import BadRecord, Dataset, RecordInfo
from melp_bench.store.index import index_digest
from melp_bench.store.layout import shard_path
from melp_bench.store.pack import pack
from melp_bench.store.prepare import Progress
from melp_bench.store.shard import check_inside

if TYPE_CHECKING:
    from melp_bench.store.reader import Store


@dataclass(frozen=True)
class Verification:
    """What was looked at, and what is wrong with it; nothing is wrong where `problems` is empty."""

    num_shards: int
    num_native: int
    problems: tuple[str, ...]


def verify(
    store: Store,
    *,
    dataset: Dataset | None = None,
    source: Path | None = None,
    sample: int = 100,
    progress: Progress | None = None,
) -> Verification:
    """Read the whole store again and compare digests; with `dataset`, also `sample` records with what it reads from `source`.

    The sample is spread evenly over the store.
    """
    problems = _check_content(store, progress)
    positions: list[int] = []
    if dataset is not None and not problems:
        positions = np.unique(np.linspace(0, len(store) - 1, min(sample, len(store))).astype(int)).tolist()
        infos = {info.record_id: info for info in dataset.infos(source or Path())}
        problems = [
            found for p in positions if (found := _check_native(store, p, dataset, source or Path(), infos)) is not None
        ]
    return Verification(len(store.manifest.shards), len(positions), tuple(problems))


def _check_content(store: Store, progress: Progress | None) -> list[str]:
    problems = []
    if store.manifest.sealed().fingerprint != store.fingerprint:
        problems.append("store.json: the fingerprint is not that of its content")
    if index_digest(pq.read_table(store.root / "index.parquet").to_pylist()) != store.manifest.index:
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


def _check_native(store: Store, position: int, dataset: Dataset, source: Path, infos: dict[str, RecordInfo]) -> str | None:
    """Return what differs between a record of the store and the same record read now."""
    record = str(store.record_ids[position])
    if record not in infos:
        return f"record {record!r}: the source no longer lists it"
    try:
        check_inside(infos[record].path or "")
        now = pack(dataset.signal(source, infos[record]))
    except BadRecord as error:
        return f"record {record!r}: cannot be read from the source now ({error})"
    then = store.signal(position)
    same = now.values.shape == then.millivolts.shape and now.leads == then.leads and now.rate_hz == then.rate_hz
    if not same or not np.array_equal(now.values * now.gains[:, None], then.millivolts):
        return f"record {record!r}: the source now has other samples, leads or another rate"
    return None
