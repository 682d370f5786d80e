"""What an evaluation is given: a model's features of a task, already embedded, and its way to read prompts.

Shapes: N records, C classes, P embedding channels, D channels of the space shared with reports, K prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melp_bench.errors import UserError

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Published:
    """Where a task's records stand in the literature's label files, whose labels and split the task then has."""

    rows: Positions  # (N,) a record's row in the file of its part
    train_rows: int  # of the training file, whether their records are here or not
    misnamed: tuple[str, ...]  # classes whose column holds another class in training or validation


@dataclass(frozen=True)
class TaskData:
    """One task of one dataset as one model sees it; only the records that the task applies to."""

    name: str  # "synthetic/super"
    classes: tuple[str, ...]
    labels: NDArray[np.bool_]  # (N, C)
    record_ids: NDArray[np.str_]  # (N,)
    patients: NDArray[np.str_]  # (N,)
    folds: NDArray[np.int64]  # (N,) 1 to 10
    split: Literal["holdout", "cross-validate"]
    embedding: Tensor  # (N, P) float32, what probes read
    record: Tensor  # (N, D) float32, in the shared space
    prompts: Mapping[str, tuple[str, ...]]  # class -> paraphrases
    published: Published | None = None  # None where labels and split are the dataset's own
    dataset: str = ""  # whose patients these are, under whatever alias; "" where nobody said

    def parts(self) -> list[tuple[Positions, Positions, Positions]]:
        """Return (train, validation, test) positions: one triple for a holdout, one per fold for cross-validation."""
        if self.split == "holdout":
            return [tuple(np.flatnonzero(m) for m in (self.folds <= 8, self.folds == 9, self.folds == 10))]  # type: ignore[list-item]
        present = sorted(set(self.folds.tolist()))
        triples = []
        for i, fold in enumerate(present):
            following = present[(i + 1) % len(present)]
            test, validation = self.folds == fold, self.folds == following
            triples.append((np.flatnonzero(~test & ~validation), np.flatnonzero(validation), np.flatnonzero(test)))
        return triples

    def scored(self) -> Positions:
        """Return the positions that are test once: fold 10 of a holdout, every record of a cross-validation."""
        return np.flatnonzero(self.folds == 10) if self.split == "holdout" else np.arange(len(self.folds))

    def in_record_order(self) -> TaskData:
        """Return the same task sorted by record id, so that no number depends on the order records came in."""
        order = np.argsort(self.record_ids, kind="stable")
        rows = torch.from_numpy(order)
        return replace(
            self,
            labels=self.labels[order],
            record_ids=self.record_ids[order],
            patients=self.patients[order],
            folds=self.folds[order],
            embedding=self.embedding[rows.to(self.embedding.device)],
            record=self.record[rows.to(self.record.device)],
            published=self.published and replace(self.published, rows=self.published.rows[order]),
        )


@dataclass(frozen=True)
class Subject:
    """The model under test. `encode_prompts` returns (K, D) in the shared space; None without a text encoder."""

    name: str
    encode_prompts: Callable[[Sequence[str]], Tensor] | None


def require_finite(subject: Subject, features: Tensor, what: str) -> None:
    """Check features (N, ...) before they are scored.

    Raises:
        UserError: a value is NaN or infinite.
    """
    bad = ~torch.isfinite(features).flatten(1).all(dim=1)  # (N,)
    if bool(bad.any()):
        raise UserError(
            f"model {subject.name!r} gave {what} that are not finite for {int(bad.sum())} of {len(bad)}; "
            f"the first is number {int(bad.int().argmax())}; check its weights and what it makes of flat or missing leads"
        )
