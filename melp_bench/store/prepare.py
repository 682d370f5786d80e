"""Native files in, a store out: read once, in parallel, resumable after any kind of death."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melp_bench.canonical import canonical_json
from melp_bench.errors import UserError
from melp_bench.home import TEMPORARY, atomic_write, make_folder
from melp_bench.records import Dataset, RecordInfo
from melp_bench.splits import FOLDS, hash_fold
from melp_bench.store.index import QUARANTINE, SCHEMA, index_digest, write_table
from melp_bench.store.layout import (
    FORMAT,
    Manifest,
    Options,
    Shard,
    part_path,
    read_manifest,
    store_path,
    tasks_to_json,
)
from melp_bench.store.shard import Job, read_part
from melp_bench.store.workers import written

if TYPE_CHECKING:
    from melp_bench.store.reader import Store

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
) -> Store:
    """Return the store of `dataset`, made from the native files in `source` where it is not there yet.

    `root` is the store's folder (default: `store_path(name, options)`). A run that was killed goes on where it stopped, and
    what it makes is byte for byte what an undisturbed run makes, with any number of workers. A finished store of the same
    records is returned as it is; `fresh` makes it again (native files have changed or were added). Metadata is held in
    memory, about 1 kB per record; signals are not.

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
    plan = _plan(dataset, name, chosen, infos, size)
    folder = make_folder(store_path(name, chosen) if root is None else root)
    count = -(-len(infos) // size)
    if fresh or not _continues(folder, plan):
        _clear(folder)
        atomic_write(folder / "plan.json", canonical_json({"plan": plan}))
    for inner in ("shards", "parts"):
        make_folder(folder / inner)
    if _finished(folder) is None:
        jobs = [Job(n, infos[n * size : (n + 1) * size]) for n in range(count) if not part_path(folder, n).exists()]
        _run(dataset, source, folder, jobs, len(infos), max(1, workers), progress)
        _finish(dataset, name, chosen, plan, folder, count)
    else:
        _renew_tasks(dataset, folder)
    _sweep(folder, done=True)
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


def _plan(dataset: Dataset, name: str, options: Mapping[str, Any], infos: Sequence[RecordInfo], size: int) -> str:
    """Return the digest of everything that decides the shards, besides the native files."""
    sha = hashlib.sha256(canonical_json([FORMAT, name, dataset.version, dict(options), size]).encode())
    for info in infos:
        stated = {**vars(info), "statements": sorted(info.statements), "age": repr(info.age)}
        sha.update(canonical_json(stated).encode())
    return sha.hexdigest()


def _continues(folder: Path, plan: str) -> bool:
    """Return True if `folder` holds a beginning, or the whole, of the store that is wanted."""
    finished = _finished(folder)
    if finished is not None:
        return finished.plan == plan
    path = folder / "plan.json"
    if path.exists():
        return path.read_text(encoding="utf-8") == canonical_json({"plan": plan})
    strange = sorted(p.name for p in folder.iterdir() if not p.name.startswith(TEMPORARY) and p.name not in ("shards", "parts"))
    if strange and not (folder / "store.json").exists():
        raise UserError(f"{str(folder)!r} holds {strange[0]!r} and no store; give a new or empty folder")
    return False


def _finished(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except UserError:
        return None


def _clear(folder: Path) -> None:
    """Remove the files of a store, and no others; `store.json` goes first, so that no half is taken for a whole."""
    for file in ("store.json", "plan.json", "index.parquet", "quarantine.parquet"):
        (folder / file).unlink(missing_ok=True)
    for pattern in ("parts/*.json", "shards/*.i16"):
        for path in folder.glob(pattern):
            path.unlink()
    _sweep(folder, done=False)


def _sweep(folder: Path, *, done: bool) -> None:
    """Remove what killed processes left, and with `done` what only a beginning needs."""
    for pattern in ("", "parts/", "shards/"):
        for path in folder.glob(f"{pattern}{TEMPORARY}*"):
            path.unlink(missing_ok=True)
    if done:
        for path in folder.glob("parts/*.json"):
            path.unlink()
        if (folder / "parts").is_dir():
            (folder / "parts").rmdir()
        (folder / "plan.json").unlink(missing_ok=True)


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


def _finish(dataset: Dataset, name: str, options: dict[str, Any], plan: str, root: Path, count: int) -> None:
    """Join the rows of the shards and write index, quarantine and, last, `store.json`."""
    parts = [read_part(root, number) for number in range(count)]
    rows = [row for part in parts for row in part["records"]]
    bad = [row for part in parts for row in part["quarantine"]]
    reasons = dict(sorted(Counter(row["code"] for row in bad).items()))
    if not rows:
        shown = ", ".join(f"{code} {number}" for code, number in reasons.items())
        raise UserError(f"no record of {name!r} can be used: {shown}; the first: {bad[0]['record_id']!r}, {bad[0]['detail']}")
    write_table(root / "index.parquet", rows, SCHEMA)
    write_table(root / "quarantine.parquet", bad, QUARANTINE)
    manifest = Manifest(
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
    )
    atomic_write(root / "store.json", manifest.sealed().dump())


def _renew_tasks(dataset: Dataset, root: Path) -> None:
    """Bring the tasks in `store.json` up to date: they may change without the records."""
    manifest = read_manifest(root)
    renewed = Manifest(**{**vars(manifest), "tasks": tasks_to_json(dataset.tasks)}).sealed()
    if renewed != manifest:
        atomic_write(root / "store.json", renewed.dump())
