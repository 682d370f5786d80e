"""Tokens that are left when others are left out: gathered, so that what is left out costs nothing, and put back.

Shapes: B records, N tokens, K tokens that are kept, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Kept:
    """The tokens of B records that are not masked, in their order; a record with fewer than another is filled up."""

    tokens: Tensor  # (B, K, D)
    places: Tensor  # (B, K) long, 0 to N - 1
    absent: Tensor | None  # (B, K) bool, True where it only fills; None where nothing does
    number: int  # N

    @classmethod
    def of(cls, tokens: Tensor, masked: Tensor) -> Kept:
        """Return those of `tokens` (B, N, D) where `masked` (B, N) is False."""
        counts = (~masked).sum(dim=1)
        places = masked.int().argsort(dim=1, stable=True)[:, : int(counts.max())]
        absent = masked.gather(1, places)
        kept = tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
        return cls(kept, places, absent if bool(absent.any()) else None, tokens.shape[1])

    def back(self, states: Tensor) -> Tensor:
        """Return states (B, K, D) at their places of (B, N, D), 0 elsewhere."""
        if self.absent is not None:
            states = states.masked_fill(self.absent[..., None], 0.0)
        whole = states.new_zeros(len(states), self.number, states.shape[-1])
        return whole.scatter(1, self.places[..., None].expand_as(states), states)
