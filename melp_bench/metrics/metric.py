"""A metric is a value: what it is called, which way is better, within which bounds, and the function that measures it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from melp_bench.metrics.ranking import Floats

Needs = Literal["ranking", "thresholds", "probabilities", "values"]
"""What a metric is measured on: any scores, scores less a threshold that validation chose, probabilities, or estimates."""


@dataclass(frozen=True)
class Metric:
    """One way to measure predictions.

    Attributes:
        name: its key in result rows: "auroc".
        label: what a reader sees: "macro AUROC".
        function: (scores (N, C), labels (N, C), weights (N, R)) -> (C, R), or (R,) for one number over all classes. A weight
            is how often a record was drawn. NaN where the drawn records do not define it.
        higher_is_better: the direction.
        bounds: the least and the largest value there can be; not always finite.
        needs: what the scores must be.
        counts_all: True if a class's number is a mean over all records, as an accuracy is; else its rarer answer limits what
            is known of it. Metrics of probabilities and of values are such means anyway.
        descriptive: True if the number tells of what was scored, and there is no truth that it would be better to come near.
        choose: (validation scores (V, C), labels (V, C)) -> thresholds (C,), for metrics that need thresholds.
        chosen_on: the records that thresholds are chosen on; "test" flatters, and is there to show by how much.
    """

    name: str
    label: str
    function: Callable[[NDArray[np.floating[Any]], NDArray[Any], Floats], Floats]
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    needs: Needs = "ranking"
    choose: Callable[[NDArray[np.floating[Any]], NDArray[Any]], NDArray[np.floating[Any]]] | None = None
    chosen_on: Literal["validation", "test"] = "validation"
    counts_all: bool = False
    descriptive: bool = False

    @property
    def of_records(self) -> bool:
        """Whether a class's number is a mean over all records."""
        return self.counts_all or self.needs in ("probabilities", "values")

    @property
    def bounded(self) -> bool:
        """Whether both bounds are finite."""
        return all(math.isfinite(bound) for bound in self.bounds)
