"""Reports as a training step reads them: tokenised once, kept as ids.

Shapes: N reports, B reports of a batch, M tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from melp_bench.components import TextBatch, TextEncoder
from melp_bench.errors import UserError
from melp_bench.pretrain.step import Batch

CHUNK = 2048
"""Reports that are tokenised together."""


class TokenisedReports:
    """The reports that are read, as a text encoder tokenises them; a report's ids do not depend on its neighbours."""

    def __init__(self, text: TextEncoder, reports: Sequence[str], positions: NDArray[np.int64]) -> None:
        self.pad = text.pad_id
        self._place = np.full(len(reports), -1, dtype=np.int64)  # of a report among those that are read
        self._place[positions] = np.arange(len(positions))
        ids: list[NDArray[np.int32]] = []
        sentences: list[NDArray[np.int16]] = []
        lengths: list[int] = []
        for begin in range(0, len(positions), CHUNK):
            batch = text.tokenize([reports[i] for i in positions[begin : begin + CHUNK].tolist()])
            real = batch.mask.numpy()
            ids.append(batch.ids.numpy()[real].astype(np.int32))
            sentences.append(batch.sentences.numpy()[real].astype(np.int16))
            lengths += real.sum(axis=1).tolist()
        self._ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._ids = np.concatenate(ids) if ids else np.empty(0, dtype=np.int32)
        self._sentences = np.concatenate(sentences) if sentences else np.empty(0, dtype=np.int16)

    def batch(self, positions: NDArray[np.int64], device: torch.device) -> TextBatch:
        """Return the reports at `positions`, padded to the longest of them, (B, M), on `device`."""
        places = self._place[positions]
        begins, ends = self._ends[places], self._ends[places + 1]
        column = np.arange(max(int((ends - begins).max(initial=0)), 1))
        mask = column < (ends - begins)[:, None]  # (B, M)
        source = (begins[:, None] + column)[mask]
        ids, sentences = np.full(mask.shape, self.pad, dtype=np.int64), np.full(mask.shape, -1, dtype=np.int64)
        ids[mask], sentences[mask] = self._ids[source], self._sentences[source]
        return TextBatch(*(torch.from_numpy(array) for array in (ids, mask, sentences))).to(device)


class ReportSource:
    """Reports alone as a loop reads them: `train` to learn from, and `validation` held out.

    Raises:
        UserError: a part is empty.
    """

    def __init__(
        self, text: TextEncoder, reports: Sequence[str], train: NDArray[np.int64], validation: NDArray[np.int64]
    ) -> None:
        if not len(train) or not len(validation):
            raise UserError(f"{len(train)} reports to train on and {len(validation)} held out; wanted some of both")
        self.train, self.validation = train, validation
        self.bounds = np.array([0, len(train)])  # reports are in memory: one part
        self._reports = TokenisedReports(text, reports, np.concatenate([train, validation]))

    def batch(self, positions: NDArray[np.int64], device: torch.device) -> Batch:
        """Return the reports at `positions`, on `device`."""
        return Batch(None, self._reports.batch(positions, device), None)
