"""Supervised: the pretraining labels themselves, as the reference that keeps a table honest.

Shapes: B records, P embedding channels, C classes.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb


class Supervised(mb.Objective):
    """Binary cross entropy of one linear layer's logits, mean over records and classes."""

    scale: ClassVar[str] = "rhythm"

    def __init__(self, sizes: mb.Sizes, *, dropout: float) -> None:
        super().__init__()
        self.dropout, self.classify = nn.Dropout(dropout), nn.Linear(sizes.embedding, sizes.classes)

    def forward(self, ecg: mb.Features, labels: Tensor) -> Tensor:
        """Return the loss of records and their `labels` (B, C)."""
        logits = self.classify(self.dropout(ecg.embedding))  # (B, C)
        return F.binary_cross_entropy_with_logits(logits.float(), labels.float())


def supervised(sizes: mb.Sizes, *, dropout: float = 0.0) -> Supervised:
    """Return the supervised objective.

    Raises:
        UserError: the pretraining data has no classes.
    """
    if sizes.classes < 1:
        raise mb.UserError(
            "the supervised objective needs labels, and there are 0 classes; name a task of the pretraining dataset"
        )
    return Supervised(sizes, dropout=dropout)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer the supervised objective."""
    return [
        mb.Entry(
            name="supervised",
            build=supervised,
            summary="binary cross entropy on the pretraining labels",
            source="this project",
            license="MIT",
        )
    ]
