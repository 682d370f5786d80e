"""The fingerprints of a store: made once, kept beside it, made again when the store or the rule changes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from melp_bench.home import atomic_write
from melp_bench.leakage.codes import SIZE, codes
from melp_bench.leakage.waves import beats
from melp_bench.store import Progress, Store, open_store

VERSION = 1
"""Raised with any change that can move a code."""

CHUNK = 256
FEW = 2000
"""Fewer records than this are done before other processes would have started."""


@dataclass(frozen=True)
class FingerprintTable:
    """The codes of N records, record by record; A anchors in all.

    Attributes:
        codes: (A, 32) int8.
        seconds: (A,) float32, when an anchor is in its record.
        counts: (N,) how many anchors a record has; one without any cannot be compared.
    """

    codes: NDArray[np.int8]
    seconds: NDArray[np.float32]
    counts: NDArray[np.int32]

    @property
    def records(self) -> NDArray[np.int32]:
        """The record of each anchor, (A,)."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)

    def of(self, positions: NDArray[np.int64]) -> FingerprintTable:
        """Return the table of the records at `positions` alone, in their order."""
        starts = np.cumsum(self.counts) - self.counts
        counts = self.counts[positions]
        ends = np.cumsum(counts)
        rows = np.arange(int(counts.sum())) + np.repeat(starts[positions] - (ends - counts), counts)
        return FingerprintTable(self.codes[rows], self.seconds[rows], counts)


def table_path(store: Store) -> Path:
    """Return where the table of `store` is kept: beside its folder."""
    return store.root.with_name(f"{store.root.name}.fingerprints.npz")


def fingerprint_table(store: Store, *, workers: int = 1, progress: Progress | None = None) -> FingerprintTable:
    """Return the table of `store`, read where it is kept and up to date, else made and kept.

    Raises:
        UserError: it cannot be written, or the store cannot be read.
    """
    path = table_path(store)
    kept = _read(path, store.fingerprint)
    if kept is not None:
        return kept
    parts: list[FingerprintTable] = []
    for part in _made(store, workers):
        parts.append(part)
        if progress is not None:
            progress(min(len(parts) * CHUNK, len(store)), len(store))
    table = FingerprintTable(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "seconds", "counts"))
    )
    file = io.BytesIO()
    np.savez(file, key=np.array(_key(store.fingerprint)), codes=table.codes, seconds=table.seconds, counts=table.counts)
    atomic_write(path, file.getvalue())
    return table


def num_without_fingerprint(store: Store) -> int:
    """Return how many records have no code, so that they are never found; 0 where no table was made."""
    kept = _read(table_path(store), store.fingerprint)
    return 0 if kept is None else int((kept.counts == 0).sum())


def _made(store: Store, workers: int) -> Iterator[FingerprintTable]:
    """Yield the tables of the store's records, `CHUNK` by `CHUNK`."""
    chunks = [np.arange(start, min(start + CHUNK, len(store))) for start in range(0, len(store), CHUNK)]
    if workers <= 1 or len(store) <= FEW:
        yield from (_part(store, chunk) for chunk in chunks)
        return
    yield from Parallel(n_jobs=min(workers, len(chunks)), return_as="generator")(
        delayed(_part_in)(store.root, chunk) for chunk in chunks
    )


def _part_in(root: Path, positions: NDArray[np.int64]) -> FingerprintTable:
    """Return `_part` of the store in `root`; a process that is asked again has it open."""
    if root not in _OPEN:
        _OPEN[root] = open_store(root)
    return _part(_OPEN[root], positions)


_OPEN: dict[Path, Store] = {}


def _part(store: Store, positions: NDArray[np.int64]) -> FingerprintTable:
    found = [codes(beats(store.signal(position))) for position in positions.tolist()]
    return FingerprintTable(
        np.concatenate([code for code, _ in found]).reshape(-1, SIZE),
        np.concatenate([seconds for _, seconds in found]).astype(np.float32),
        np.array([len(code) for code, _ in found], dtype=np.int32),
    )


def _key(fingerprint: str) -> str:
    return f"{VERSION}:{fingerprint}"


def _read(path: Path, fingerprint: str) -> FingerprintTable | None:
    """Return the table kept at `path`, or None where there is none, it is damaged, or it is of something else."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["key"]) != _key(fingerprint):
                return None
            table = FingerprintTable(kept["codes"], kept["seconds"], kept["counts"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    whole = len(table.codes) == len(table.seconds) == int(table.counts.sum())
    return table if whole else None
