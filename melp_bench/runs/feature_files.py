"""Features of a whole dataset as Parquet, for those who want features only: a folder with a file for each shard of the store.

A row is a record: `record_id`, `patient_id`, `fold`, `embedding` (what probes read), `record` (in the space shared with
reports), and where asked for `segments` or `tokens`, a list of vectors. The folder reads as one table, by
pandas or pyarrow. Beside the files `_features.json` says of what model and records they are; a file has its name once it is
whole, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from melp_bench.errors import UserError
from melp_bench.home import TEMPORARY, atomic_write, make_folder, remove_leftovers
from melp_bench.locks import LOCK_FILES, Tell, folder_lock
from melp_bench.runs.loaded import LoadedModel, Scale
from melp_bench.store import Store

SAID = "_features.json"
BATCH = 64  # records
Advance = Callable[[int, int], None]
logger = logging.getLogger(__name__)


def write_features(
    model: LoadedModel,
    store: Store,
    out: Path,
    *,
    scale: Scale | None = None,
    advance: Advance = lambda done, total: None,
    tell: Tell = logger.warning,
    rank: int = 0,
    ranks: int = 1,
) -> list[Path]:
    """Write the features of every record of `store` below `out`, and return the files, those that were there among them.

    `scale` is "segments" or "tokens" to have these, too. Of several `ranks` each writes the files of its own shards, and the
    folder is whole when all have.

    Raises:
        UserError: `out` holds something else, or features of another model, other records or another scale; or a record
            has not the leads that the model wants.
    """
    if (reason := store.refusal(model.spec)) is not None:
        raise UserError(f"{model.name!r} cannot read this dataset: {reason}")
    said = {
        "model": model.name,
        "identity": model.identity,
        "dataset": store.name,
        "records": store.fingerprint,
        "scale": scale or "record",
        "device": model.device.type,
    }
    with nullcontext() if rank else folder_lock(out, f"embedding {store.name!r}", tell):  # of ranks the first holds it
        _begin(out, said)
        remove_leftovers(out)
        paths = {shard: out / f"part-{shard:05d}.parquet" for shard in np.unique(store.shards).tolist()}
        records = {shard: np.flatnonzero(store.shards == shard) for shard in list(paths)[rank::ranks]}
        missing = [shard for shard in records if not _is_whole(paths[shard], len(records[shard]))]
        total = sum(map(len, records.values()))
        done = total - sum(len(records[shard]) for shard in missing)
        advance(done, total)
        for shard in missing:
            content = io.BytesIO()
            pq.write_table(_table(model, store, records[shard], scale, partial(_add, advance, done, total)), content)
            atomic_write(paths[shard], content.getvalue())
            done += len(records[shard])
    return list(paths.values())


def _add(advance: Advance, done: int, total: int, more: int) -> None:
    advance(done + more, total)


def _begin(out: Path, said: dict[str, str]) -> None:
    """Say of what the features in `out` are, or check that those begun there are of the same.

    Raises:
        UserError: they are of something else.
    """
    path = make_folder(out) / SAID
    if not path.is_file():
        strange = sorted(p.name for p in out.iterdir() if p.name not in LOCK_FILES and not p.name.startswith(TEMPORARY))
        if strange:
            raise UserError(f"{str(out)!r} holds {strange[0]!r} and no features of ours; give a new or empty folder")
        atomic_write(path, json.dumps(said, indent=1) + "\n")
        return
    try:
        had = json.loads(path.read_text(encoding="utf-8"))
        differs = {name: had[name] for name in said if had[name] != said[name]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{str(path)!r} is damaged ({error}); give a new folder") from error
    if differs:
        first = next(name for name in ("model", "dataset", "scale", "device", "identity", "records") if name in differs)
        told = {
            "identity": f"of another version of {said['model']!r}: other weights, options or code",
            "records": f"of other records of {said['dataset']!r}",
        }
        what = told.get(first, f"of the {first} {differs[first]!r}, not {said.get(first)!r}")
        raise UserError(f"{str(out)!r} holds features {what}; give another folder")


def _is_whole(path: Path, records: int) -> bool:
    """Return whether the file of a shard is there and has a row for each record."""
    try:
        return path.is_file() and pq.read_metadata(path).num_rows == records
    except (OSError, pa.ArrowException):
        return False


def _table(
    model: LoadedModel, store: Store, positions: NDArray[np.int64], scale: Scale | None, advance: Callable[[int], None]
) -> pa.Table:
    """Return the rows of the records at `positions`."""
    scales: tuple[Scale, ...] = ("embedding", "record", scale) if scale else ("embedding", "record")
    columns: dict[Scale, list[NDArray[np.float32]]] = {name: [] for name in scales}
    for start in range(0, len(positions), BATCH):
        batch = positions[start : start + BATCH]
        found = model.of_windows(store.windows(batch, model.spec, device=model.device), scales)
        for name in scales:
            columns[name] += found[name]
        advance(min(start + BATCH, len(positions)))
    arrays: dict[str, Any] = {
        "record_id": store.record_ids[positions].tolist(),
        "patient_id": store.patient_ids[positions].tolist(),
        "fold": pa.array(store.folds[positions].tolist(), pa.int16()),
        "embedding": _fixed(np.stack(columns["embedding"])),
        "record": _fixed(np.stack(columns["record"])),
    }
    if scale:
        real = [one[~np.isnan(one).all(axis=1)] for one in columns[scale]]  # (Q, D) each
        ends = np.cumsum([0, *map(len, real)]).astype(np.int32)
        arrays[scale] = pa.ListArray.from_arrays(pa.array(ends), _fixed(np.concatenate(real)))
    return pa.table(arrays)


def _fixed(values: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Return (N, D) as N lists of D numbers."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
