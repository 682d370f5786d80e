"""Which test records were in a model's pretraining: by record where it is one store, by signal everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UserError
from melp_bench.leakage.duplicates import Watch, find_duplicates, known_duplicates
from melp_bench.splits import TEST_FOLD
from melp_bench.store import Store

Positions = NDArray[np.int64]

AT_ONCE = 100_000
"""Stores with more records than this, together, are not searched in passing; `melp-bench data leakage` does it once for all."""


@dataclass(frozen=True)
class Seen:
    """The outcome of a check.

    Attributes:
        positions: of the test store's records that are also among the pretraining records; None where nothing was checked.
        how: "signal", "record" (made records, which are told apart by their numbers), or why nothing was checked.
    """

    positions: Positions | None
    how: str


def pretraining_records(corpus: Store) -> Positions:
    """Return the records that pretraining reads: those of a holdout that train, and those that choose a checkpoint."""
    return np.flatnonzero(corpus.folds != TEST_FOLD)


def seen_in_pretraining(corpus: Store, test: Store, *, workers: int = 1, watch: Watch | None = None) -> Seen:
    """Return which records of `test`, of any fold, are among those of `corpus` that pretraining reads."""
    read = pretraining_records(corpus)
    one = corpus.fingerprint == test.fingerprint
    if one and corpus.generated:
        return Seen(read, "record")
    if len(corpus) + len(test) > AT_ONCE and known_duplicates(corpus, test) is None:
        names = f"{corpus.root.name} {test.root.name}"
        return Seen(None, f"{len(corpus) + len(test):,} records; melp-bench data leakage {names} checks them once for all runs")
    found = find_duplicates(corpus, test, workers=workers, watch=watch)
    pairs = np.array([(one.first, one.second) for one in found], dtype=np.int64).reshape(-1, 2)
    if one:
        pairs = np.concatenate([pairs, pairs[:, ::-1], np.stack([read, read], axis=1)])
    return Seen(np.unique(pairs[np.isin(pairs[:, 0], read), 1]), "signal")


def refuse_shared_patients(corpus: Store, test: Store, tested: Positions) -> None:
    """Check that no patient of the records at `tested` is among those that pretraining reads, where both are one dataset.

    Raises:
        UserError: a patient is in both; so a cross-validated dataset cannot be the pretraining corpus.
    """
    if corpus.name != test.name:
        return
    shared = np.intersect1d(corpus.patient_ids[pretraining_records(corpus)], test.patient_ids[tested])
    if len(shared):
        raise UserError(
            f"{len(shared):,} patients of {test.name!r}, {str(shared[0])!r} the first, are in pretraining (all folds but "
            f"{TEST_FOLD}) and would be scored; pretrain on another dataset, or score fold {TEST_FOLD} alone with "
            'split = "holdout"'
        )
