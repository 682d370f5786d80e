"""One shard: its records read from native files, packed, and written whole or not at all. Runs in worker processes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from melp_bench.canonical import canonical_json
from melp_bench.errors import UserError
from melp_bench.home import atomic_write, commit, temporary_path
from melp_bench.records import BadRecord, Dataset, RecordInfo
from melp_bench.splits import hash_fold
from melp_bench.store.layout import part_path, shard_path
from melp_bench.store.pack import Packed, pack

NO_SOURCE = Path("/nonexistent")
"""Handed to datasets that make their records and read none."""


@dataclass(frozen=True)
class Job:
    """What a worker has to do: the records of one shard."""

    number: int
    infos: Sequence[RecordInfo]


def write_shard(dataset: Dataset, source: Path | None, root: Path, job: Job) -> int:
    """Write a shard and then its rows, and return how many records were tried; the rows are what makes it count.

    Raises:
        UserError: the store cannot be written.
    """
    path = shard_path(root, job.number)
    temporary = temporary_path(path)
    rows: list[dict[str, Any]] = []
    bad: list[dict[str, str]] = []
    sha, offset = hashlib.sha256(), 0
    try:
        with temporary.open("wb") as file:
            for info in job.infos:
                try:
                    packed = read_record(dataset, source, info)
                except BadRecord as reason:
                    bad.append({"record_id": info.record_id, "code": reason.code, "detail": reason.detail[:500]})
                    continue
                content = packed.values.astype("<i2").tobytes()
                sha.update(content)
                file.write(content)
                rows.append(_row(info, packed, job.number, offset))
                offset += packed.values.size
            file.flush()
            commit(file.fileno(), temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}; what is finished is kept") from error
    finally:
        temporary.unlink(missing_ok=True)
    part = {"values": offset, "digest": sha.hexdigest(), "records": rows, "quarantine": bad}
    atomic_write(part_path(root, job.number), canonical_json(part))
    return len(job.infos)


def read_part(root: Path, number: int) -> dict[str, Any]:
    """Return what `write_shard` said of a finished shard."""
    part: dict[str, Any] = json.loads(part_path(root, number).read_bytes())
    return part


def read_record(dataset: Dataset, source: Path | None, info: RecordInfo) -> Packed:
    """Return a record, checked and packed; whatever is wrong with its file is a reason, and none ends a run.

    Raises:
        BadRecord: it cannot be used.
    """
    if info.path is not None:
        check_inside(info.path)
    try:
        with np.errstate(all="ignore"):  # what overflows is infinite, and infinite samples have a reason of their own
            return pack(dataset.signal(NO_SOURCE if source is None else source, info))
    except (BadRecord, UserError):
        raise
    except FileNotFoundError as error:
        raise BadRecord("missing-file", str(error.filename)) from error
    except OSError as error:
        raise BadRecord("unreadable-file", error.strerror or str(error)) from error
    except Exception as error:  # one odd file must not end a run of hours; it is kept, with its reason, for the eye
        raise BadRecord("unexpected", f"{type(error).__name__}: {error}") from error


def check_inside(path: str) -> None:
    """Check that a path from data stays within its source folder.

    Raises:
        BadRecord: it is absolute or climbs out.
    """
    for flavour in (PurePosixPath(path), PureWindowsPath(path)):
        if flavour.is_absolute() or flavour.drive or ".." in flavour.parts or "\0" in path:
            raise BadRecord("unsafe-path", f"{path[:100]!r} leaves the source folder")


def _row(info: RecordInfo, packed: Packed, shard: int, offset: int) -> dict[str, Any]:
    age = info.age if info.age is not None and math.isfinite(info.age) else None
    return {
        "record_id": info.record_id,
        "patient_id": info.patient_id,
        "statements": sorted(info.statements),
        "report": info.report,
        "age": None if age is None else float(age),
        "sex": info.sex,
        "fold": info.fold if info.fold is not None else hash_fold(info.patient_id or info.record_id),
        "rate_hz": packed.rate_hz,
        "leads": list(packed.leads),
        "num_samples": packed.values.shape[1],
        "shard": shard,
        "offset": offset,
        "gains": packed.gains.tolist(),
        "flat_leads": packed.flat_leads,
        "missing_samples": packed.missing_samples,
        "verdict": packed.verdict,
        "repairs": list(packed.repairs),
        "quality_flags": list(packed.quality_flags),
        "measurements": sorted([name, float(value)] for name, value in info.measurements.items() if math.isfinite(value)),
        "path": info.path,
    }
