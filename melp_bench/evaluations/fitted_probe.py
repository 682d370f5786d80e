"""A linear probe that can be kept and used on other records, and what an evaluation offers to fit one.

Shapes: N records, P embedding channels, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from melp_bench.evaluations.context import Context
    from melp_bench.evaluations.evaluation import Measurement


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """One linear layer on standardised embeddings.

    Attributes:
        mean, scale: what an embedding's channels are standardised by: (x - mean) * scale.
        details: what its fit says of itself, plain JSON.
    """

    classes: tuple[str, ...]
    weight: Tensor  # (P, C)
    bias: Tensor  # (C,)
    mean: Tensor  # (P,)
    scale: Tensor  # (P,)
    details: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, embedding: Tensor) -> Tensor:
        """Return the logits (N, C) of embeddings (N, P)."""
        return (embedding.float() - self.mean) * self.scale @ self.weight + self.bias


@runtime_checkable
class FitsProbe(Protocol):
    """What an evaluation offers beside the rest if it fits a probe that can be kept."""

    def fitted(self, context: Context, measurement: Measurement) -> FittedProbe:
        """Return the probe of one row.

        Raises:
            NotApplicable: the row has none.
        """
