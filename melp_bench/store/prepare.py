"""Native files in, a store out: read once, in parallel, resumable after any kind of death."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melp_bench.canonical import canonical_json
from melp_bench.errors import UserError
from melp_bench.home import TEMPORARY, atomic_write, make_folder
from melp_bench.locks import LOCK_FILES, Tell, folder_lock
from melp_bench.records import Dataset, RecordInfo
from melp_bench.store.exchange import NEXT, clear, finish_exchange, sweep
from melp_bench.store.index import QUARANTINE, SCHEMA, IndexDigests, TableWriter
from melp_bench.store.layout import (
    FORMAT,
    Options,
    Shard,
    StoreManifest,
    part_path,
    read_manifest,
    store_path,
    tasks_to_json,
)
from melp_bench.store.native_files import SOURCE_FILE, source_state
from melp_bench.store.plan import PLAN_FILE, StorePlan, told_source
from melp_bench.store.record_list import check_records, list_records
from melp_bench.store.shard import Job, read_part
from melp_bench.store.workers import written

if TYPE_CHECKING:
    from melp_bench.store.reader import Store

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
"""Called with (records done, records in all) as work proceeds."""


def prepare(
    dataset: Dataset,
    *,
    name: str,
    source: Path | None,
    root: Path | None = None,
    options: Options | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    fresh: bool = False,
    replace: bool = False,
    tell: Tell = logger.warning,
    code: str = "",
) -> Store:
    """Return the store of `dataset`, made from the native files in `source` where it is not there yet.

    `root` is the store's folder (default: `store_path(name, options)`). A run that was killed goes on where it stopped, and
    what it makes is byte for byte what an undisturbed run makes, with any number of workers. A finished store of the same
    records and files is returned as it is; one whose files were changed since, by name, size or time, is made again, and told
    to be; `fresh` makes it again in any case. A store that was read from another folder is refused, and with `replace` made
    again from this one. A store that is there stays until another one is whole. One process at a time makes a store; a second
    one waits, tells so, and takes what the first has made. A store that other `code` made, by its digest, is made again.
    Metadata is held in memory, about 1 kB per record; signals are not.

    Raises:
        UserError: the source lacks something or changed while it was read, the store is of another source, records are not
            told apart, a patient is in two folds, no record can be used, or the folder cannot be written.
    """
    chosen = dict(options or {})
    if source is None and dataset.reads_files:
        raise UserError(f"dataset {name!r} is read from files; say where they are with --from DIR")
    if source is not None and not source.is_dir():
        raise UserError(f"source {str(source)!r} is not a folder; give the one that holds the files of {name!r}")
    infos, remarks = list_records(dataset, source or Path())
    check_records(infos, name)
    for remark in remarks:
        tell(remark)
    state = source_state(dataset, source, infos) if source is not None and dataset.reads_files else None
    size = max(16, min(512, -(-len(infos) // 64)))
    plan = StorePlan(_plan_digest(dataset, name, chosen, infos, size, code), state)
    folder = make_folder(store_path(name, chosen) if root is None else root)
    with folder_lock(folder, f"preparing {name!r}", tell):
        finish_exchange(folder)
        if plan.differs(folder, name, tell, replace=replace) or fresh or plan.is_begun(folder / NEXT):
            place = _begin(folder, plan, tell, fresh=fresh)
            parts = [infos[start : start + size] for start in range(0, len(infos), size)]
            jobs = [Job(n, part) for n, part in enumerate(parts) if not part_path(place, n).exists()]
            _run(dataset, source, place, jobs, len(infos), max(1, workers), progress)
            if source is not None and state is not None and source_state(dataset, source, infos) != state:
                raise UserError(f"files in {str(source)!r} were changed while they were read; run the same command again")
            _finish(dataset, name, chosen, plan, place, len(parts), code)
            sweep(place, done=True)
            finish_exchange(folder)
        else:
            _renew_tasks(dataset, folder)
        sweep(folder, done=True)
    from melp_bench.store.reader import open_store  # needs torch, which nothing before it does

    return open_store(folder)


def _plan_digest(
    dataset: Dataset, name: str, options: Mapping[str, Any], infos: Sequence[RecordInfo], size: int, code: str
) -> str:
    """Return the digest of everything that decides the shards, besides the native files."""
    sha = hashlib.sha256(canonical_json([FORMAT, name, dataset.version, dict(options), size, code]).encode())
    for info in infos:
        stated = {**vars(info), "statements": sorted(info.statements), "age": repr(info.age)}
        sha.update(canonical_json(stated).encode())
    return sha.hexdigest()


def _begin(folder: Path, plan: StorePlan, tell: Tell, *, fresh: bool) -> Path:
    """Return where the store is made, with what an earlier run with this plan has made there.

    It is `folder` itself, or a folder in it where a store is there already, which stays until the new one is whole.
    """
    stood = (folder / "store.json").exists()
    place = make_folder(folder / NEXT) if stood else folder
    if not stood and not (folder / PLAN_FILE).exists():
        known = ("shards", "parts", NEXT, *LOCK_FILES)
        strange = sorted(p.name for p in folder.iterdir() if not p.name.startswith(TEMPORARY) and p.name not in known)
        if strange:
            raise UserError(f"{str(folder)!r} holds {strange[0]!r} and no store; give a new or empty folder")
    if fresh or not plan.is_begun(place):
        if begun := told_source(place):
            tell(f"what was begun from {begun!r} and not finished is not gone on with: files, records or code are others now")
        clear(place)
        atomic_write(place / PLAN_FILE, plan.dump())
    for inner in ("shards", "parts"):
        make_folder(place / inner)
    return place


def _run(
    dataset: Dataset, source: Path | None, root: Path, jobs: list[Job], total: int, workers: int, progress: Progress | None
) -> None:
    """Write the shards of `jobs`; after Ctrl-C the shards at hand are finished and kept."""
    done = total - sum(len(job.infos) for job in jobs)
    if progress is not None:
        progress(done, total)
    for tried in written(dataset, source, root, jobs, min(workers, len(jobs))):
        done += tried
        if progress is not None:
            progress(done, total)


def _finish(dataset: Dataset, name: str, options: dict[str, Any], plan: StorePlan, root: Path, count: int, code: str) -> None:
    """Join the rows of the shards and write index, quarantine and, last, `store.json`; few rows are held at a time."""
    reasons, patients, shards, digests = Counter[str](), set[str](), list[Shard](), IndexDigests()
    num_records, first = 0, ""
    with (
        TableWriter(root / "index.parquet", SCHEMA) as index,
        TableWriter(root / "quarantine.parquet", QUARANTINE) as quarantine,
    ):
        for number in range(count):
            part = read_part(root, number)
            rows, bad = part["records"], part["quarantine"]
            digests.add(rows)
            index.add(rows)
            quarantine.add(bad)
            num_records += len(rows)
            patients.update(row["patient_id"] or row["record_id"] for row in rows)
            reasons.update(row["code"] for row in bad)
            first = first or (f"{bad[0]['record_id']!r}, {bad[0]['detail']}" if bad else "")
            shards.append(Shard(part["values"], part["digest"]))
        if not num_records:
            shown = ", ".join(f"{code} {number}" for code, number in sorted(reasons.items()))
            clear(root)  # nothing of it is worth to be gone on with
            raise UserError(f"no record of {name!r} can be used: {shown}; the first: {first}")
    manifest = StoreManifest(
        format=FORMAT,
        name=name,
        version=dataset.version,
        options=options,
        licence=dataset.licence,
        citation=dataset.citation,
        generated=dataset.generated,
        has_official_folds=dataset.has_official_folds,
        num_records=num_records,
        num_patients=len(patients),
        quarantined=dict(sorted(reasons.items())),
        plan=plan.digest,
        index=digests.index,
        data=digests.data,
        shards=shards,
        tasks=tasks_to_json(dataset.tasks),
        code=code,
        release=dataset.release,
    )
    if plan.source is not None:
        atomic_write(root / SOURCE_FILE, plan.source.dump())
    atomic_write(root / "store.json", manifest.sealed().dump())


def _renew_tasks(dataset: Dataset, root: Path) -> None:
    """Bring the tasks in `store.json` up to date: they may change without the records."""
    manifest = read_manifest(root)
    renewed = StoreManifest(**{**vars(manifest), "tasks": tasks_to_json(dataset.tasks)}).sealed()
    if renewed != manifest:
        atomic_write(root / "store.json", renewed.dump())
