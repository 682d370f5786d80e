"""What every encoder returns and every objective reads, the same for records and reports.

Shapes: B records or reports, Q segments (beats, windows, learned queries | sentences), N signal tokens or words, D channels,
P probe channels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Three scales by name, and the embedding that probes read.

    Masks are boolean, True where an entry is real. A scale that an encoder does not offer is None until the model's
    heads have made it.
    """

    record: Tensor  # (B, D) whole record | whole report
    embedding: Tensor  # (B, P) what probes read; not always what contrast reads
    segments: Tensor | None = None  # (B, Q, D) beats, windows or learned queries | sentences
    segments_mask: Tensor | None = None  # (B, Q)
    tokens: Tensor | None = None  # (B, N, D) signal tokens | words
    tokens_mask: Tensor | None = None  # (B, N)
    token_ids: Tensor | None = None  # (B, N) the words' ids; None for records

    def apply(self, change: dict[str, Tensor]) -> Features:
        """Return the features with the named tensors replaced."""
        return replace(self, **change)

    def present(self) -> dict[str, Tensor]:
        """Return the tensors that are there, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
