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
from melp_bench.splits import FOLDS, hash_fold
from melp_bench.store.exchange import NEXT, clear, finish_exchange, sweep
from melp_bench.store.index import QUARANTINE, SCHEMA, index_digest, write_table
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
    tell: Tell = logger.warning,
    code: str = "",
) -> Store:
    """Return the store of `dataset`, made from the native files in `source` where it is not there yet.

    `root` is the store's folder (default: `store_path(name, options)`). A run that was killed goes on where it stopped, and
    what it makes is byte for byte what an undisturbed run makes, with any number of workers. A finished store of the same
    records is returned as it is; `fresh` makes it again (native files have changed or were added). A store that is there stays
    until another one is whole. One process at a time makes a store; a second one waits, tells so, and takes what the first has
    made. A store that other `code` made, by its digest, is made again. Metadata is held in memory, about 1 kB per record;
    signals are not.

    Raises:
        UserError: the source lacks something, records are not told apart, a patient is in two folds, no record can be used,
            or the folder cannot be written.
    """
    chosen = dict(options or {})
    if source is None and not dataset.generated:
        raise UserError(f"dataset {name!r} is read from files; say where they are with --from DIR")
    if source is not None and not source.is_dir():
        raise UserError(f"source {str(source)!r} is not a folder; give the one that holds the files of {name!r}")
    infos = list(dataset.infos(source or Path()))
    _check_infos(infos, name)
    size = max(16, min(512, -(-len(infos) // 64)))
    plan = _plan(dataset, name, chosen, infos, size, code)
    folder = make_folder(store_path(name, chosen) if root is None else root)
    with folder_lock(folder, f"preparing {name!r}", tell):
        finish_exchange(folder)
        finished = _finished(folder)
        if fresh or finished is None or finished.plan != plan or _is_begun(folder / NEXT, plan):
            place = _begin(folder, plan, fresh=fresh)
            parts = [infos[start : start + size] for start in range(0, len(infos), size)]
            jobs = [Job(n, part) for n, part in enumerate(parts) if not part_path(place, n).exists()]
            _run(dataset, source, place, jobs, len(infos), max(1, workers), progress)
            _finish(dataset, name, chosen, plan, place, len(parts), code)
            sweep(place, done=True)
            finish_exchange(folder)
        else:
            _renew_tasks(dataset, folder)
        sweep(folder, done=True)
    from melp_bench.store.reader import open_store  # needs torch, which nothing before it does

    return open_store(folder)


def _check_infos(infos: Sequence[RecordInfo], name: str) -> None:
    """Check what must hold over all records."""
    if not infos:
        raise UserError(f"dataset {name!r} lists no record in this source; is it the right folder?")
    fold_of: dict[str, int] = {}
    seen: set[str] = set()
    for info in infos:
        if info.record_id in seen:
            raise UserError(f"dataset {name!r} lists the record {info.record_id!r} twice; record ids must differ")
        seen.add(info.record_id)
        if info.fold is not None and info.fold not in FOLDS:
            raise UserError(f"record {info.record_id!r} is in fold {info.fold!r}; wanted {FOLDS[0]} to {FOLDS[-1]}")
        patient = info.patient_id or info.record_id
        fold = hash_fold(patient) if info.fold is None else info.fold
        if fold_of.setdefault(patient, fold) != fold:
            raise UserError(f"patient {patient!r} is in the folds {fold_of[patient]} and {fold}; a patient has one fold")


def _plan(dataset: Dataset, name: str, options: Mapping[str, Any], infos: Sequence[RecordInfo], size: int, code: str) -> str:
    """Return the digest of everything that decides the shards, besides the native files."""
    sha = hashlib.sha256(canonical_json([FORMAT, name, dataset.version, dict(options), size, code]).encode())
    for info in infos:
        stated = {**vars(info), "statements": sorted(info.statements), "age": repr(info.age)}
        sha.update(canonical_json(stated).encode())
    return sha.hexdigest()


def _begin(folder: Path, plan: str, *, fresh: bool) -> Path:
    """Return where the store is made, with what an earlier run with this plan has made there.

    It is `folder` itself, or a folder in it where a store is there already, which stays until the new one is whole.
    """
    stood = (folder / "store.json").exists()
    place = make_folder(folder / NEXT) if stood else folder
    if not stood and not (folder / "plan.json").exists():
        known = ("shards", "parts", NEXT, *LOCK_FILES)
        strange = sorted(p.name for p in folder.iterdir() if not p.name.startswith(TEMPORARY) and p.name not in known)
        if strange:
            raise UserError(f"{str(folder)!r} holds {strange[0]!r} and no store; give a new or empty folder")
    if fresh or not _is_begun(place, plan):
        clear(place)
        atomic_write(place / "plan.json", canonical_json({"plan": plan}))
    for inner in ("shards", "parts"):
        make_folder(place / inner)
    return place


def _is_begun(place: Path, plan: str) -> bool:
    path = place / "plan.json"
    return path.is_file() and path.read_text(encoding="utf-8") == canonical_json({"plan": plan})


def _finished(folder: Path) -> StoreManifest | None:
    try:
        return read_manifest(folder)
    except UserError:
        return None


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


def _finish(dataset: Dataset, name: str, options: dict[str, Any], plan: str, root: Path, count: int, code: str) -> None:
    """Join the rows of the shards and write index, quarantine and, last, `store.json`."""
    parts = [read_part(root, number) for number in range(count)]
    rows = [row for part in parts for row in part["records"]]
    bad = [row for part in parts for row in part["quarantine"]]
    reasons = dict(sorted(Counter(row["code"] for row in bad).items()))
    if not rows:
        shown = ", ".join(f"{code} {number}" for code, number in reasons.items())
        clear(root)  # nothing of it is worth to be gone on with
        raise UserError(f"no record of {name!r} can be used: {shown}; the first: {bad[0]['record_id']!r}, {bad[0]['detail']}")
    write_table(root / "index.parquet", rows, SCHEMA)
    write_table(root / "quarantine.parquet", bad, QUARANTINE)
    manifest = StoreManifest(
        format=FORMAT,
        name=name,
        version=dataset.version,
        options=options,
        licence=dataset.licence,
        citation=dataset.citation,
        generated=dataset.generated,
        has_official_folds=dataset.has_official_folds,
        num_records=len(rows),
        num_patients=len({row["patient_id"] or row["record_id"] for row in rows}),
        quarantined=reasons,
        plan=plan,
        index=index_digest(rows),
        data=index_digest(rows, judged=False),
        shards=[Shard(part["values"], part["digest"]) for part in parts],
        tasks=tasks_to_json(dataset.tasks),
        code=code,
    )
    atomic_write(root / "store.json", manifest.sealed().dump())


def _renew_tasks(dataset: Dataset, root: Path) -> None:
    """Bring the tasks in `store.json` up to date: they may change without the records."""
    manifest = read_manifest(root)
    renewed = StoreManifest(**{**vars(manifest), "tasks": tasks_to_json(dataset.tasks)}).sealed()
    if renewed != manifest:
        atomic_write(root / "store.json", renewed.dump())
