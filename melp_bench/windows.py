"""A record as the windows that an encoder reads it by, and what is known of a record from the features of its windows.

Shapes: B records, M windows, L leads, T samples of a window, P channels of `embedding`, D channels of `record`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from melp_bench.features import Features
from melp_bench.resampling import ratio
from melp_bench.signal import Crops, SignalSpec, conform


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of B records, each of which has one at least."""

    signals: Tensor  # (M, L, T), as the spec asks
    owners: Tensor  # (M,) long, 0 to B - 1: whose they are, on the device of the signals

    def __len__(self) -> int:
        return len(self.signals)


def one_each(signals: Tensor) -> Windows:
    """Return conformed records (B, L, T) as a window each."""
    return Windows(signals, torch.arange(len(signals), device=signals.device))


def starts(samples: int, spec: SignalSpec) -> range:
    """Return where the windows of a record of `samples`, at the spec's rate, begin: one without crops.

    Crops lie wholly within the record, so that its last samples may be in none; a record shorter than a crop has one.
    """
    if spec.crops is None:
        return range(1)
    step = max(1, round(spec.samples * (1 - spec.crops.overlap)))
    return range(0, max(samples - spec.samples, 0) + 1, step)


def conform_windows(
    signals: Tensor,
    *,
    rate_hz: float,
    leads: Sequence[str],
    spec: SignalSpec,
    lengths: Tensor | None = None,
    inplace: bool = False,
) -> Windows:
    """Return records (B, L, T) as `spec` asks for them, window by window; arguments and errors are those of `conform`.

    Filter and scaling read the whole record, from its first to its last sample, and the crops are cut from that.
    """
    if spec.crops is None:
        return one_each(conform(signals, rate_hz=rate_hz, leads=leads, spec=spec, lengths=lengths, inplace=inplace))
    up, down = ratio(rate_hz, spec.rate_hz)
    longest = max(-(-signals.shape[-1] * up // down), spec.samples)
    whole = conform(
        signals,
        rate_hz=rate_hz,
        leads=leads,
        spec=replace(spec, seconds=longest / spec.rate_hz, crops=None),
        lengths=lengths,
        inplace=inplace,
    )
    native = [signals.shape[-1]] * len(signals) if lengths is None else lengths.tolist()
    cuts = [(row, start) for row, length in enumerate(native) for start in starts(-(-length * up // down), spec)]
    if not cuts:
        return Windows(whole[..., : spec.samples], torch.zeros(0, dtype=torch.long, device=whole.device))
    parts = torch.stack([whole[row, :, start : start + spec.samples] for row, start in cuts])
    return Windows(parts, torch.tensor([row for row, _ in cuts], device=whole.device))


def joined(parts: Sequence[Windows], rows: Sequence[Tensor]) -> Windows:
    """Return the windows of several groups of records as one; `rows` say which records of the whole a group's are."""
    signals = torch.cat([part.signals for part in parts])
    owners = torch.cat([where.to(part.owners.device)[part.owners] for part, where in zip(parts, rows, strict=True)])
    return Windows(signals, owners)


def embed_windows(
    encode: Callable[[Tensor], Features], windows: Windows, crops: Crops | None, *, batch_size: int = 64
) -> tuple[Tensor, Tensor]:
    """Return `embedding` (B, P) and `record` (B, D), in float32, of records whose windows `encode` makes features of.

    A record of several windows has the mean or the maximum over them, as its encoder's `crops` say; one window is not touched.
    """
    found = [encode(part) for part in torch.split(windows.signals, batch_size)]
    embedding = torch.cat([features.embedding.float() for features in found])
    record = torch.cat([features.record.float() for features in found])
    if crops is None:
        return embedding, record
    return pooled(embedding, windows.owners, crops.pool), pooled(record, windows.owners, crops.pool)


def pooled(values: Tensor, owners: Tensor, pool: Literal["mean", "max"]) -> Tensor:
    """Return the mean or maximum of `values` (M, P) over the windows of each record, (B, P)."""
    records = int(owners.max()) + 1 if len(owners) else 0
    index = owners[:, None].expand_as(values)
    out = values.new_zeros(records, values.shape[1])
    return out.scatter_reduce(0, index, values, "mean" if pool == "mean" else "amax", include_self=False)
