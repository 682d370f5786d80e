"""Several stores as pretraining reads them: one after the other, as if they were one.

Shapes: N records of all stores, B records asked for, C classes, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melp_bench.canonical import digest
from melp_bench.records import Signal
from melp_bench.signal import SignalSpec
from melp_bench.store.reader import Positions, Store


class JoinedStore(Store):
    """The records of several stores, in their order; with what pretraining asks of a store, and nothing more.

    A person is one within a dataset, wherever its store lies. A task is there if all stores have it with the same classes.
    """

    def __init__(self, parts: Sequence[Store]) -> None:
        self.parts = tuple(parts)
        self.begins = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        shared = [name for name in parts[0].tasks if all(name in part.tasks for part in parts)]
        self.tasks = {name: parts[0].tasks[name] for name in shared if len({self._classes(p, name) for p in parts}) == 1}
        self.record_ids = np.concatenate([np.char.add(f"{part.name}/", part.record_ids) for part in parts])
        self.patient_ids = np.concatenate([np.char.add(f"{part.name}/", part.patient_ids) for part in parts])
        self.folds = np.concatenate([part.folds for part in parts])
        self.reports = [report for part in parts for report in part.reports]
        shards = np.concatenate([[0], np.cumsum([int(part.shards.max(initial=-1)) + 1 for part in parts])])
        self.shards = np.concatenate([part.shards + first for part, first in zip(parts, shards[:-1], strict=True)])
        self.rates_hz = np.concatenate([part.rates_hz for part in parts])
        self.num_samples = np.concatenate([part.num_samples for part in parts])
        self.leads = [leads for part in parts for leads in part.leads]

    @staticmethod
    def _classes(part: Store, task: str) -> tuple[str, ...]:
        return tuple(part.tasks[task].members)

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[tuple[Store, ...]]]:  # type: ignore[override]
        return JoinedStore, (self.parts,)

    @property
    def name(self) -> str:
        """The names of the datasets."""
        return " + ".join(part.name for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the fingerprints, in their order."""
        return digest([part.fingerprint for part in self.parts])

    @property
    def generated(self) -> bool:
        """True if all records are made, not measured."""
        return all(part.generated for part in self.parts)

    def task_digest(self, name: str, *, prompts: bool = False) -> str:
        """Return the SHA-256 of what decides a task's records and labels in each store."""
        self.task(name)
        return digest([part.task_digest(name, prompts=prompts) for part in self.parts])

    def labels(self, task: str) -> NDArray[np.bool_]:
        """Return the labels of all records, (N, C)."""
        self.task(task)
        return np.concatenate([part.labels(task) for part in self.parts])

    def signal(self, position: int) -> Signal:
        """Return a record's whole signal as its source had it."""
        part = int(self._part(np.array([position]))[0])
        return self.parts[part].signal(position - int(self.begins[part]))

    def refusal(self, spec: SignalSpec, positions: Positions | None = None) -> str | None:
        """Return why an encoder of `spec` cannot be fed with the records at `positions` (default: all); None if it can."""
        for number, (part, begin) in enumerate(zip(self.parts, self.begins[:-1].tolist(), strict=True)):
            mine = None
            if positions is not None:
                asked = np.asarray(positions, dtype=np.int64)
                mine = asked[self._part(asked) == number] - begin
            if (reason := part.refusal(spec, mine)) is not None:
                return reason
        return None

    def batch(
        self,
        positions: Positions,
        spec: SignalSpec,
        device: str | torch.device = "cpu",
        *,
        part: tuple[float, float] = (0.0, 1.0),
    ) -> Tensor:
        """Return the records at `positions` as `spec` asks for them, (B, len(spec.leads), spec.samples), on `device`."""
        wanted = np.asarray(positions, dtype=np.int64)
        of = self._part(wanted)
        out = torch.empty(len(wanted), len(spec.leads), spec.samples, device=device)
        for number in np.unique(of).tolist():
            rows = np.flatnonzero(of == number)
            local = wanted[rows] - self.begins[number]
            out[torch.from_numpy(rows).to(device)] = self.parts[number].batch(local, spec, device, part=part)
        return out

    def _part(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which store each of `positions` lies in."""
        return np.asarray(np.searchsorted(self.begins, positions, side="right") - 1, dtype=np.int64)
