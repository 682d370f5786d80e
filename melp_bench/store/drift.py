"""Does a source still say what a store was made of: the same files, the same samples, the same labels?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from melp_bench.records import BadRecord, Dataset, RecordInfo
from melp_bench.splits import hash_fold
from melp_bench.store.pack import Packed
from melp_bench.store.shard import read_record

if TYPE_CHECKING:
    from melp_bench.store.reader import Store

_TABLES = (".csv", ".csv.gz")


def unknown_records(store: Store, infos: Mapping[str, RecordInfo]) -> str | None:
    """Return that the source lists records of which the store knows nothing; None if it does not."""
    bad = pq.read_table(store.root / "quarantine.parquet", columns=["record_id"])["record_id"].to_pylist()
    new = infos.keys() - set(store.record_ids.tolist()) - set(bad)
    if not new:
        return None
    return f"the source lists {len(new):,} records that the store does not know, {min(new)!r} among them; prepare with --fresh"


def file_drift(source: Path, infos: Sequence[RecordInfo]) -> tuple[int, list[str]]:
    """Return how many files were compared with the source's own `SHA256SUMS.txt`, and which are not what it lists.

    Compared are the tables and the files of the records `infos`; none where the source has no such list.

    Raises:
        UserError: the list cannot be read.
    """
    from melp_bench.fetch.listing import SUMS, read_list, refusal

    if not (source / SUMS).is_file():
        return 0, []
    record_of = {info.path.partition("#")[0]: info.record_id for info in infos if info.path}
    compared, problems = 0, []
    for listed in read_list(source / SUMS, "sha256sums"):
        name = listed.name
        record = record_of.get(name, record_of.get(name.rpartition(".")[0]))
        path = source / name
        if (record is None and not name.endswith(_TABLES)) or refusal(name) or not path.is_file():
            continue
        compared += 1
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != listed.digest:
                whose = f"record {record!r}: " if record is not None else ""
                problems.append(f"{whose}{name} is not the file that {SUMS} lists")
    return compared, problems


def record_drift(store: Store, position: int, dataset: Dataset, source: Path, infos: Mapping[str, RecordInfo]) -> Iterator[str]:
    """Yield what differs between a record of the store and the same record read now, checksums of its own among it."""
    record = str(store.record_ids[position])
    if record not in infos:
        yield f"record {record!r}: the source no longer lists it"
        return
    if changed := _changed(store, position, infos[record]):
        yield f"record {record!r}: the source now states another {', another '.join(changed)}"
    try:
        now = read_record(dataset, source, infos[record])
    except BadRecord as error:
        yield f"record {record!r}: cannot be read from the source now ({error})"
        return
    if not _same_samples(store, position, now):
        yield f"record {record!r}: the source now has other samples, leads or another rate"


def _changed(store: Store, position: int, info: RecordInfo) -> list[str]:
    """Return which of the things a source says of a record it says differently now."""
    patient = info.patient_id or info.record_id
    age = np.nan if info.age is None else info.age
    same = {
        "patient": store.patient_ids[position] == patient,
        "set of statements": store.statements[position] == info.statements,
        "report": store.reports[position] == info.report,
        "age": np.array_equal(store.ages[position], age, equal_nan=True),
        "sex": store.sexes[position] == (info.sex or ""),
        "fold": store.folds[position] == (hash_fold(patient) if info.fold is None else info.fold),
    }
    return [name for name, equal in same.items() if not equal]


def _same_samples(store: Store, position: int, now: Packed) -> bool:
    then = store.signal(position)
    if (now.values.shape, now.leads, now.rate_hz) != (then.millivolts.shape, then.leads, then.rate_hz):
        return False
    return np.array_equal(now.values * now.gains[:, None], then.millivolts)
