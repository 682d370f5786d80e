"""Label subsets: which training records a probe may see the labels of.

The rule. Records are ordered by the SHA-256 of "seed:record id". The first record of each class in that order is moved to
the front; a subset is the first `max(1, round(fraction x N))` records, or all those moved to the front where they are more.
So subsets of one seed are nested (1 % within 10 % within 100 %), every class that has a positive keeps one at any
fraction, and a record's place depends on its own id: records that come or go later move the others by no more than the
count they change. Records are drawn, not patients: labels are bought by the record.

The published rules: both permute the rows of the training file (of a task that has none, its training records by record id)
by NumPy's legacy generator with seed 42. MELP (`DataFrame.sample(frac=..., random_state=42)`) takes the head, rounded; MERL
(scikit-learn's `train_test_split(train_size=..., random_state=42)`) the tail, rounded down. So both are nested, and up to one
half they have no record in common; a class may have no positive in them.

Shapes: N records, C classes.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SubsetRule = Literal["nested", "melp", "merl"]
"""How a fraction of the labels is drawn: nested is ours, a set per seed; the others are the published ones, one set for all."""


def label_subset(record_ids: NDArray[np.str_], labels: NDArray[Any], fraction: float, seed: int) -> NDArray[np.int64]:
    """Return the positions of the subset among `record_ids` (N,) with `labels` (N, C), in the subset's own order.

    Raises:
        ValueError: the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction!r}; wanted more than 0 and at most 1")
    order = hashed_order(record_ids, seed)
    if len(order) == 0:
        return order
    positive = labels[order].astype(bool)
    front = np.unique(positive.argmax(axis=0)[positive.any(axis=0)])  # ranks of the first record of each class
    rest = np.setdiff1d(np.arange(len(order)), front)
    count = max(1, round(fraction * len(order)), len(front))
    subset: NDArray[np.int64] = order[np.concatenate([front, rest])[:count]]
    return subset


def published_subset(num_rows: int, fraction: float, rule: Literal["melp", "merl"]) -> NDArray[np.int64]:
    """Return the rows of a training file of `num_rows` that the published code of MELP or MERL takes, in its order.

    Raises:
        ValueError: the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction!r}; wanted more than 0 and at most 1")
    order = np.random.RandomState(42).permutation(num_rows).astype(np.int64)
    if rule == "melp":
        return order[: round(fraction * num_rows)]
    return order[num_rows - math.floor(fraction * num_rows) :]


def hashed_order(record_ids: NDArray[np.str_], seed: int) -> NDArray[np.int64]:
    """Return the positions of the records by the hash of seed and id."""
    hashes = [hashlib.sha256(f"{seed}:{record}".encode()).digest() for record in record_ids.tolist()]
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__), dtype=np.int64)
