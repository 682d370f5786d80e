"""What an evaluation is told of a task: its records, what is true of them, and how they are split. No features are in it.

Shapes: N records of the task, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.splits import Positions, SplitPart


@dataclass(frozen=True)
class PublishedRows:
    """Where a task's records stand in the literature's label files, whose labels and split the task then has."""

    rows: Positions  # (N,) a record's row in the file of its part
    train_rows: int  # of the training file, whether their records are here or not
    misnamed: tuple[str, ...]  # classes whose column holds another class in training or validation


@dataclass(frozen=True, eq=False)
class TaskRecords:
    """The records that one task of one dataset applies to, sorted by record id, so that no number depends on their order.

    Attributes:
        name: "synthetic/super".
        dataset: whose records these are, under whatever alias.
        parts: one of a holdout, one per fold of a cross-validation; positions point into these records.
        positions: where the records lie in their store.
        reports: N texts.
        prompts: class -> paraphrases.
        published: None where labels and split are the dataset's own.
        details: what a row says of the task: plain JSON.
    """

    name: str
    dataset: str
    classes: tuple[str, ...]
    labels: NDArray[np.bool_]  # (N, C)
    record_ids: NDArray[np.str_]  # (N,)
    patients: NDArray[np.str_]  # (N,)
    ages: NDArray[np.float64]  # (N,) years, NaN where unknown
    sexes: NDArray[np.str_]  # (N,) "F", "M" or ""
    reports: tuple[str, ...]
    prompts: Mapping[str, tuple[str, ...]]
    parts: tuple[SplitPart, ...]
    positions: Positions  # (N,)
    published: PublishedRows | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.record_ids)

    @property
    def alias(self) -> str:
        """The dataset's name in the protocol."""
        return self.name.partition("/")[0]

    @cached_property
    def scored(self) -> Positions:
        """The positions that are test once, ascending: the test part of a holdout, every record of a cross-validation."""
        tested = [part.test for part in self.parts]
        return np.sort(np.concatenate(tested)) if tested else np.array([], dtype=np.int64)
