"""Which records train, validate and test: the one place where folds are spelt.

A store gives every record a fold from 1 to 10: the source's own where it has folds, else by the SHA-256 of the patient id.
Shapes: N records of a task; positions point into these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
NUM_FOLDS = 10
VALIDATION_FOLD, TEST_FOLD = 9, 10
"""Of a holdout; the folds before them train."""


@dataclass(frozen=True, eq=False)
class Part:
    """One fit: positions to train on, to choose by, and to score."""

    train: Positions
    validation: Positions
    test: Positions


def holdout(folds: NDArray[np.int64]) -> tuple[Part, ...]:
    """Return the one part of a holdout of records in `folds` (N,): 1-8 train, 9 validates, 10 is tested."""
    return (
        Part(
            np.flatnonzero(folds < VALIDATION_FOLD),
            np.flatnonzero(folds == VALIDATION_FOLD),
            np.flatnonzero(folds == TEST_FOLD),
        ),
    )


def cross_validation(folds: NDArray[np.int64]) -> tuple[Part, ...]:
    """Return a part per fold of `folds` (N,): each fold is tested once, the next one validates, the others train."""
    present = sorted(set(folds.tolist()))
    parts = []
    for place, fold in enumerate(present):
        test, validation = folds == fold, folds == present[(place + 1) % len(present)]
        parts.append(Part(np.flatnonzero(~test & ~validation), np.flatnonzero(validation), np.flatnonzero(test)))
    return tuple(parts)
