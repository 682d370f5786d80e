"""A finished store, read by memory map: metadata as columns, signals as conformed batches.

Shapes: N records in the store, B records asked for, C classes, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from melp_bench.canonical import digest
from melp_bench.errors import UnknownName, UserError
from melp_bench.records import Signal, Task
from melp_bench.registry import nearest
from melp_bench.signal import SignalSpec, conform, native_window
from melp_bench.store.layout import StoreManifest, read_manifest, shard_path, tasks_from_json, tasks_to_json
from melp_bench.windows import Windows, conform_windows, joined, one_each

K = TypeVar("K")
V = TypeVar("V")
READ = (
    *("record_id", "patient_id", "fold", "age", "sex", "report", "statements", "rate_hz", "num_samples", "leads", "verdict"),
    *("quality_flags", "shard", "offset", "gains"),
)
"""The columns of the index that a store is opened with."""
OPEN_SHARDS = 128
"""Shards that a store keeps open at most; the one that was read longest ago is closed first. MIMIC-IV-ECG has 1,563, and a
process may open 1,024 files as a rule. A window of the pretraining order reads from some 32 of them."""
Positions = Sequence[int] | NDArray[np.int64]


class Native(TypedDict):
    """Records of one rate and lead order as `conform` takes them."""

    signals: Tensor
    rate_hz: float
    leads: tuple[str, ...]
    lengths: Tensor | None


class Store:
    """Records of one dataset. A record is named by its position, 0 to len(store) - 1.

    Attributes:
        root: its folder.
        manifest: its own account of itself.
        tasks: by name.
        record_ids: (N,) str.
        patient_ids: (N,) str; the record's id where the source has no patients.
        folds: (N,) int, 1 to 10: official where the source has folds, else from the hash of the patient id.
        ages: (N,) float years, NaN where unknown.
        sexes: (N,) str, "F", "M" or "".
        reports: N texts.
        statements: N sets of labels, by name.
        rates_hz: (N,) float.
        num_samples: (N,) int.
        leads: N tuples of lead names, in the source's order; a record may have any of the standard ones.
        verdicts: N of "ok" and "repaired".
        shards: (N,) int, the shard that holds the record; ascending.
        quality_flags: N tuples of reason codes of what looks wrong and was left as it is.
    """

    def __init__(self, root: Path, manifest: StoreManifest) -> None:
        self.root = root
        self.manifest = manifest
        self.tasks: dict[str, Task] = tasks_from_json(manifest.tasks)
        try:
            table = pq.read_table(root / "index.parquet", columns=list(READ))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the index of the store {str(root)!r}: {error}; prepare it again") from error
        said = {name: partial(_pylist, table, name) for name in READ}  # a column at a time, or ten million rows fill 35 GB
        ids = said["record_id"]()
        self.record_ids: NDArray[np.str_] = np.array(ids, dtype=np.str_)
        self.patient_ids: NDArray[np.str_] = np.array([p or r for p, r in zip(said["patient_id"](), ids, strict=True)], np.str_)
        self.folds: NDArray[np.int64] = np.array(said["fold"](), dtype=np.int64)
        self.ages: NDArray[np.float64] = np.array([np.nan if a is None else a for a in said["age"]()], dtype=np.float64)
        self.sexes: NDArray[np.str_] = np.array([sex or "" for sex in said["sex"]()], dtype=np.str_)
        self.reports: list[str] = _once(said["report"](), str)
        self.statements: list[frozenset[str]] = _once(map(tuple, said["statements"]()), frozenset)
        self.rates_hz: NDArray[np.float64] = np.array(said["rate_hz"](), dtype=np.float64)
        self.num_samples: NDArray[np.int64] = np.array(said["num_samples"](), dtype=np.int64)
        self.leads: list[tuple[str, ...]] = _once(map(tuple, said["leads"]()), tuple)
        self.verdicts: list[str] = _once(said["verdict"](), str)
        self.quality_flags: list[tuple[str, ...]] = _once(map(tuple, said["quality_flags"]()), tuple)
        self.shards: NDArray[np.int64] = np.array(said["shard"](), dtype=np.int64)
        self._offset: NDArray[np.int64] = np.array(said["offset"](), dtype=np.int64)
        self._gains = _once(map(tuple, said["gains"]()), partial(np.array, dtype=np.float32))
        self._shard = lru_cache(maxsize=OPEN_SHARDS)(partial(_mapped, root, manifest))  # safe among threads
        self._labels: dict[str, NDArray[np.bool_]] = {}

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return open_store, (self.root,)

    def __len__(self) -> int:
        return len(self.record_ids)

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the content: signals, metadata and statements; not of the tasks."""
        return self.manifest.fingerprint

    @property
    def generated(self) -> bool:
        """True if the records are made, not measured."""
        return self.manifest.generated

    # ---------------------------------------------------------------------------------------------------------- labels

    def task(self, name: str) -> Task:
        """Return a task by name.

        Raises:
            UnknownName: the dataset has no such task.
        """
        if name not in self.tasks:
            known = ", ".join(self.tasks) or "none"
            raise UnknownName(f"dataset {self.name!r} has no task {name!r}{nearest(name, list(self.tasks))} Known: {known}")
        return self.tasks[name]

    def task_digest(self, name: str, *, prompts: bool = False) -> str:
        """Return the SHA-256 of what decides a task's records and labels; with `prompts`, of its prompts, too."""
        value = tasks_to_json({name: self.task(name)})[0]
        return digest(value if prompts else {part: value[part] for part in ("name", "members", "keep_unlabelled")})

    def labels(self, task: str) -> NDArray[np.bool_]:
        """Return the labels of all records, (N, C), columns in the order of the task's classes."""
        if task not in self._labels:
            members = list(self.task(task).members.values())
            rows = [[not wanted.isdisjoint(had) for wanted in members] for had in self.statements]
            self._labels[task] = np.array(rows, dtype=np.bool_).reshape(len(self), len(members))
        return self._labels[task].copy()

    def eligible(self, task: str) -> NDArray[np.bool_]:
        """Return which records a task is about, (N,): those with one of its classes, or all if it keeps the others."""
        if self.task(task).keep_unlabelled:
            return np.ones(len(self), dtype=np.bool_)
        return np.asarray(self.labels(task).any(axis=1))

    def measurement(self, name: str) -> NDArray[np.float64]:
        """Return what the source states of every record under `name`, (N,); NaN where it states nothing."""
        column = pq.read_table(self.root / "index.parquet", columns=["measurements"])["measurements"].to_pylist()
        return np.array([dict(pairs or ()).get(name, np.nan) for pairs in column], dtype=np.float64)

    def measurements(self, positions: Positions) -> list[dict[str, float]]:
        """Return all that the source states of the records at `positions`, by its names."""
        column = pq.read_table(self.root / "index.parquet", columns=["measurements"])["measurements"]
        return [dict(pairs or ()) for pairs in column.take(pa.array(np.asarray(positions, dtype=np.int64))).to_pylist()]

    # --------------------------------------------------------------------------------------------------------- signals

    def signal(self, position: int) -> Signal:
        """Return a record's whole signal as the source had it (its standard leads)."""
        millivolts = self._values(position) * self._gains[position][:, None]
        steps = tuple(self._gains[position].tolist())
        return Signal(millivolts, float(self.rates_hz[position]), self.leads[position], steps)

    def refusal(self, spec: SignalSpec, positions: Positions | None = None) -> str | None:
        """Return why an encoder of `spec` cannot be fed with the records at `positions` (default: all); None if it can."""
        kinds = self._kinds if positions is None else self._kinds[np.asarray(positions, dtype=np.int64)]
        for kind, first in zip(*np.unique(kinds, return_index=True), strict=True):
            position = int(first) if positions is None else int(positions[int(first)])
            if (reason := spec.refusal(self.leads[position])) is not None:
                also = int((kinds == kind).sum()) - 1
                others = f" and {also:,} others" if also else ""
                return f"record {str(self.record_ids[position])!r} of {self.name!r}{others}: {reason}"
        return None

    def batch(
        self,
        positions: Positions,
        spec: SignalSpec,
        device: str | torch.device = "cpu",
        *,
        part: tuple[float, float] = (0.0, 1.0),
    ) -> Tensor:
        """Return the records at `positions` as `spec` asks for them, (B, len(spec.leads), spec.samples), on `device`.

        `part` is the share of each record that is read, and conformed as if it were a record of its own: (0.5, 1.0) is its
        second half. Records of one rate and lead order are conformed together; only samples that decide the result are read.

        Raises:
            UserError: a record has not the leads that `spec` wants; the record is named.
        """
        wanted = np.asarray(positions, dtype=np.int64)
        groups = self._groups(wanted, spec)
        parts = [conform(**self._native(wanted[rows], spec, device, part), spec=spec, inplace=True) for rows in groups]
        if len(parts) == 1:
            return parts[0]
        out = torch.empty(len(wanted), len(spec.leads), spec.samples, device=device)
        for rows, conformed in zip(groups, parts, strict=True):
            out[torch.from_numpy(rows).to(device)] = conformed
        return out

    def windows(self, positions: Positions, spec: SignalSpec, device: str | torch.device = "cpu") -> Windows:
        """Return the windows by which an encoder of `spec` reads the records at `positions`: one each, without crops.

        Raises:
            UserError: as `batch`.
        """
        wanted = np.asarray(positions, dtype=np.int64)
        groups = self._groups(wanted, spec)
        if not groups or spec.crops is None:
            return one_each(self.batch(wanted, spec, device))
        natives = (self._native(wanted[rows], spec, device, whole=True) for rows in groups)
        parts = [conform_windows(**native, spec=spec, inplace=True) for native in natives]
        return joined(parts, [torch.from_numpy(rows) for rows in groups])

    @cached_property
    def _kinds(self) -> NDArray[np.int64]:
        """Return a number per record, equal for equal rate and lead order, (N,)."""
        known: dict[tuple[float, tuple[str, ...]], int] = {}
        pairs = zip(self.rates_hz.tolist(), self.leads, strict=True)
        return np.array([known.setdefault(pair, len(known)) for pair in pairs], dtype=np.int64)

    def _groups(self, wanted: NDArray[np.int64], spec: SignalSpec) -> list[NDArray[np.int64]]:
        """Return the rows of `wanted` that are conformed together, group by group."""
        if (reason := self.refusal(spec, wanted)) is not None:
            raise UserError(reason)
        kinds = self._kinds[wanted]
        return [np.flatnonzero(kinds == kind) for kind in np.unique(kinds).tolist()]

    def _native(
        self,
        positions: NDArray[np.int64],
        spec: SignalSpec,
        device: str | torch.device,
        part: tuple[float, float] = (0.0, 1.0),
        *,
        whole: bool = False,
    ) -> Native:
        """Return what `conform` is given of records of one rate and lead order: what decides the result, or their `whole`."""
        first = int(positions[0])
        rate_hz, leads = float(self.rates_hz[first]), self.leads[first]
        begins, ends = (np.rint(share * self.num_samples[positions]).astype(np.int64) for share in part)
        lengths = ends - begins  # (B,)
        if not whole:
            lengths = np.minimum(lengths, native_window(rate_hz, spec))
        longest = int(lengths.max())
        ragged = bool((lengths != longest).any())
        block = (np.zeros if ragged else np.empty)((len(positions), len(leads), longest), dtype=np.int16)
        for row, (position, begin) in enumerate(zip(positions.tolist(), begins.tolist(), strict=True)):
            block[row, :, : lengths[row]] = self._values(position)[:, begin : begin + lengths[row]]
        gains = torch.from_numpy(np.stack([self._gains[p] for p in positions.tolist()])).to(device)  # (B, L)
        millivolts = torch.from_numpy(block).to(device).float().mul_(gains[:, :, None])  # (B, L, T)
        return {
            "signals": millivolts,
            "rate_hz": rate_hz,
            "leads": leads,
            "lengths": torch.from_numpy(lengths) if ragged else None,
        }

    def _values(self, position: int) -> NDArray[np.int16]:
        """Return a record's int16 values, (L, T), as a view of its shard."""
        values = self._shard(int(self.shards[position]))
        start, leads, samples = int(self._offset[position]), len(self.leads[position]), int(self.num_samples[position])
        return values[start : start + leads * samples].reshape(leads, samples)


def _mapped(root: Path, manifest: StoreManifest, shard: int) -> NDArray[np.int16]:
    """Return all values of a shard, mapped into memory; its file is open for as long as somebody holds them.

    Raises:
        UserError: the shard is missing, or has not the length that it was written with.
    """
    path, expected = shard_path(root, shard), 2 * manifest.shards[shard].values
    if not path.is_file() or path.stat().st_size != expected:
        raise UserError(f"shard {str(path)!r} is missing or has not {expected} bytes; prepare the store again")
    return np.asarray(np.memmap(path, dtype="<i2", mode="r"))


def _pylist(table: pa.Table, name: str) -> list[Any]:
    """Return a column as Python values."""
    found: list[Any] = table.column(name).to_pylist()
    return found


def _once(values: Iterable[K], make: Callable[[K], V]) -> list[V]:
    """Return what `make` makes of each value, one object for all that are equal."""
    known: dict[K, V] = {}
    return [known[value] if value in known else known.setdefault(value, make(value)) for value in values]


def open_store(root: Path) -> Store:
    """Return the finished store in `root`.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    return Store(root, read_manifest(root))
