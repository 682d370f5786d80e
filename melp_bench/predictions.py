"""What an evaluation returns, and what metrics are measured on: scores of records, and what is true of them.

Shapes: S probe seeds (1 where nothing is fitted), N scored records, V validation records, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["ranking", "logit", "probability", "value"]
"""What a score is: only its order counts (a cosine); its sigmoid is a probability; it is one; or it estimates a quantity."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores of the test records, each scored once.

    `validation` has scores (S, V, C) and labels (V, C) on which thresholds are chosen and probabilities calibrated; None where
    the evaluation looked at no such records. Where parts of a record are scored, such as its moments, a part's id is that of
    the record, "@" and what tells it from the others: "17@2.36 s".
    """

    scores: NDArray[np.floating[Any]]  # (S, N, C)
    labels: NDArray[Any]  # (N, C) bool; float where `kind` is "value"
    record_ids: NDArray[np.str_]  # (N,)
    patients: NDArray[np.str_]  # (N,)
    classes: tuple[str, ...]
    kind: Kind = "ranking"
    validation: tuple[NDArray[np.floating[Any]], NDArray[Any]] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # plain JSON: what a reader may want to know beside the scores
