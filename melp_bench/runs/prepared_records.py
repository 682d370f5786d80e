"""Records as published benchmarks prepared them before an encoder saw them: cut short, or padded before they were scaled.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from melp_bench.canonical import digest
from melp_bench.embedding import Records, StatesMeasurements
from melp_bench.protocol import DatasetUse
from melp_bench.signal import Scaling, SignalSpec, scaled
from melp_bench.splits import Positions
from melp_bench.windows import Windows, conform_windows, one_each


def signal_defects(use: DatasetUse) -> dict[str, Any]:
    """Return what a protocol does to the signals of a dataset before they are scaled: plain JSON, empty where nothing."""
    padded = {"padding": use.padding} if use.padding != "after-scaling" else {}
    return padded | ({"seconds": use.seconds} if use.seconds is not None else {})


def prepared(records: Records, use: DatasetUse) -> Records:
    """Return the records as the protocol has them read: as they are, where it says nothing."""
    if not signal_defects(use):
        return records
    return PreparedRecords(records, use.seconds or math.inf, use.padding == "before-scaling")


@dataclass(frozen=True)
class PreparedRecords:
    """Records of which an encoder gets the first `seconds`, scaled before or after zeros fill them up to what it wants."""

    records: Records
    seconds: float
    padded_first: bool

    @property
    def fingerprint(self) -> str:
        """The digest of the records and of what is done to them."""
        return digest([self.records.fingerprint, repr(self.seconds), self.padded_first])

    def __len__(self) -> int:
        return len(self.records)

    def measurements(self, positions: Positions) -> list[dict[str, float]]:
        """Return what the source states of the records at `positions`."""
        return self.records.measurements(positions) if isinstance(self.records, StatesMeasurements) else [{}] * len(positions)

    def batch(self, positions: Positions, spec: SignalSpec, device: str | torch.device = "cpu") -> Tensor:
        """Return the records at `positions`, cut and padded, as `spec` asks for them, (B, L, T), on `device`."""
        read = replace(spec, seconds=min(spec.seconds, self.seconds), crops=None)
        read = replace(read, scaling=Scaling.MILLIVOLT) if self.padded_first else read
        signals = self.records.batch(positions, read, device=device)
        signals = F.pad(signals, (0, spec.samples - signals.shape[-1]))
        return scaled(signals, spec.scaling) if self.padded_first else signals

    def windows(self, positions: Positions, spec: SignalSpec, device: str | torch.device = "cpu") -> Windows:
        """Return the windows by which an encoder of `spec` reads the records at `positions`; of crops, those of the cut."""
        if spec.crops is None:
            return one_each(self.batch(positions, spec, device))
        if math.isinf(self.seconds):  # crops lie within their record, so that nothing is padded
            return self.records.windows(positions, spec, device=device)
        whole = replace(spec, seconds=self.seconds, scaling=Scaling.MILLIVOLT, crops=None)
        cut = self.records.batch(positions, whole, device=device)
        return conform_windows(cut, rate_hz=spec.rate_hz, leads=spec.leads, spec=replace(spec, filter=None))
