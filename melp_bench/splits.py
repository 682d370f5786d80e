"""Which records train, validate and test: the one place where folds are spelt.

A store gives every record a fold from 1 to 10: the source's own where it has folds, else by the SHA-256 of the patient id. A
split makes parts of a task's records by these folds, or by lists of records.

Shapes: N records of a task; positions point into these.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UserError

Positions = NDArray[np.int64]
FOLDS = range(1, 11)
VALIDATION_FOLD, TEST_FOLD = 9, 10
"""Of a holdout; the folds before them train."""


def hash_fold(key: str) -> int:
    """Return the fold of a patient id (record id where there is none); it depends on nothing else."""
    return FOLDS[int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % len(FOLDS)]


@dataclass(frozen=True, eq=False)
class SplitPart:
    """One fit: positions to train on, to choose by, and to score."""

    train: Positions
    validation: Positions
    test: Positions


def holdout(folds: NDArray[np.int64]) -> tuple[SplitPart, ...]:
    """Return the one part of a holdout of records in `folds` (N,): 1-8 train, 9 validates, 10 is tested."""
    return (
        SplitPart(
            np.flatnonzero(folds < VALIDATION_FOLD),
            np.flatnonzero(folds == VALIDATION_FOLD),
            np.flatnonzero(folds == TEST_FOLD),
        ),
    )


def cross_validation(folds: NDArray[np.int64]) -> tuple[SplitPart, ...]:
    """Return a part per fold of `folds` (N,): each fold is tested once, the next one validates, the others train."""
    present = sorted(set(folds.tolist()))
    parts = []
    for place, fold in enumerate(present):
        test, validation = folds == fold, folds == present[(place + 1) % len(present)]
        parts.append(SplitPart(np.flatnonzero(~test & ~validation), np.flatnonzero(validation), np.flatnonzero(test)))
    return tuple(parts)


class Split(ABC):
    """A way to part records into those that train, validate and are tested.

    Attributes:
        identity: all that decides the parts besides the records and their folds, plain JSON, for a row's key.
    """

    identity: Any

    @abstractmethod
    def parts(
        self, record_ids: NDArray[np.str_], patients: NDArray[np.str_], folds: NDArray[np.int64]
    ) -> tuple[SplitPart, ...]:
        """Return the parts of N records.

        Raises:
            UserError: these records cannot be split so.
        """

    def details(self, parts: Sequence[SplitPart]) -> Mapping[str, Any]:
        """Return what a row says of its split beside its identity, plain JSON; nothing by default."""
        return {}


@dataclass(frozen=True)
class FoldSplit(Split):
    """By the folds that a store gives its records: official ones, or from the hash of the patient id."""

    identity: str
    rule: Callable[[NDArray[np.int64]], tuple[SplitPart, ...]]

    def parts(
        self, record_ids: NDArray[np.str_], patients: NDArray[np.str_], folds: NDArray[np.int64]
    ) -> tuple[SplitPart, ...]:
        """Return the parts of N records."""
        return self.rule(folds)


FOLD_SPLITS = {
    split.identity: split for split in (FoldSplit("holdout", holdout), FoldSplit("cross-validate", cross_validation))
}
"""By the name that a protocol gives them."""


@dataclass(frozen=True, eq=False)
class ListedSplit(Split):
    """By lists of records, as the files of a publication give them; a record that is in none is in no part.

    Attributes:
        train, validation, test: record ids.
        identity: plain JSON, such as the digests of the files.
    """

    train: Sequence[str]
    validation: Sequence[str]
    test: Sequence[str]
    identity: Any

    def parts(
        self, record_ids: NDArray[np.str_], patients: NDArray[np.str_], folds: NDArray[np.int64]
    ) -> tuple[SplitPart, ...]:
        """Return the one part of N records, positions ascending.

        Raises:
            UserError: a patient is in several lists.
        """
        found = [np.flatnonzero(np.isin(record_ids, list(ids))) for ids in (self.train, self.validation, self.test)]
        refuse_shared_patients([patients[positions] for positions in found])
        return (SplitPart(*found),)


def refuse_shared_patients(groups: Sequence[NDArray[np.str_]]) -> None:
    """Refuse to have one patient in several groups of `groups`, each of which has its records' patients.

    Raises:
        UserError: a patient is.
    """
    inside = [np.unique(patients) for patients in groups]
    names, counts = np.unique(np.concatenate([np.zeros(0, np.str_), *inside]), return_counts=True)
    if len(shared := names[counts > 1]):
        raise UserError(f"{len(shared)} patients are in several parts of the split, such as {str(shared[0])!r}")
