"""Batches for pretraining, from a store.

Shapes: N records, B records of a batch, L leads, T samples, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melp_bench.components import TextEncoder
from melp_bench.errors import UserError
from melp_bench.pretrain.reports import TokenisedReports
from melp_bench.pretrain.sampler import shard_bounds
from melp_bench.pretrain.step import Batch
from melp_bench.pretrain.views import WHOLE, Part
from melp_bench.signal import SignalSpec
from melp_bench.splits import holdout
from melp_bench.store import Store

MEMORY_LIMIT_BYTES = 2 * 1024**3
"""Conformed records are kept in memory as long as they fit in this; beyond it they are read from the store at each step."""

BLOCK = 16
"""Records that are conformed together and kept: always the same ones, so that no bit depends on which was asked for first."""


class PretrainSource:
    """Records, reports and labels of a store, as one model wants them: those that train and validate in a holdout.

    `parts` are the shares of a record that views look at (`Step.parts`).

    Raises:
        UserError: no record is in fold 9, so that nothing could choose among checkpoints.
    """

    def __init__(
        self,
        store: Store,
        spec: SignalSpec,
        text: TextEncoder | None,
        labels: NDArray[np.bool_] | None = None,
        parts: Iterable[Part] = (),
    ) -> None:
        self.store, self.spec, self.labels = store, spec, labels
        self.parts = [part for part in parts if part != WHOLE]
        self.patients = np.unique(store.patient_ids, return_inverse=True)[1]  # (N,)
        (part,) = holdout(store.folds)
        self.train, self.validation = part.train, part.validation
        self.bounds = shard_bounds(store.shards[self.train])
        if not len(self.validation):
            raise UserError(
                f"dataset {store.name!r} has no record in fold 9, which pretraining is validated on; use more records"
            )
        self._readable = np.concatenate([self.train, self.validation])
        self._reports = None if text is None else TokenisedReports(text, store.reports, self._readable)
        self._place = np.full(len(store), -1, dtype=np.int64)  # of a position among the readable
        self._place[self._readable] = np.arange(len(self._readable))
        self._kept: Tensor | None = None
        self._known = np.zeros(-(-len(self._readable) // BLOCK), dtype=bool)
        if len(self._readable) * len(spec.leads) * spec.samples * 4 <= MEMORY_LIMIT_BYTES:
            self._kept = torch.empty(len(self._readable), len(spec.leads), spec.samples)

    def batch(self, positions: NDArray[np.int64], device: torch.device) -> Batch:
        """Return the records at `positions`, on `device`."""
        labels = None if self.labels is None else torch.from_numpy(self.labels[positions]).float().to(device)
        reports = None if self._reports is None else self._reports.batch(positions, device)
        patients = torch.from_numpy(self.patients[positions]).to(device)
        parts = {part: self.store.batch(positions, self.spec, device, part=part) for part in self.parts}
        return Batch(self._signals(positions, device), reports, labels, patients, parts)

    def _signals(self, positions: NDArray[np.int64], device: torch.device) -> Tensor:
        """Return the records (B, L, T), conformed on `device`."""
        if self._kept is None:
            return self.store.batch(positions, self.spec, device=device)
        places = self._place[positions]
        for block in np.unique(places // BLOCK).tolist():
            if not self._known[block]:
                part = slice(block * BLOCK, (block + 1) * BLOCK)
                self._kept[part] = self.store.batch(self._readable[part], self.spec, device=device).cpu()
                self._known[block] = True
        return self._kept[places].to(device)
