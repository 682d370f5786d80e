"""Means of what was drawn, which metrics of probabilities and of quantities share.

Shapes: C classes or quantities, R sets of weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mean_of_drawn(sums: Floats, weights: Floats) -> Floats:
    """Return weighted sums (C, R) by the records that each set of weights (N, R) drew; NaN where it drew none."""
    drawn = np.broadcast_to(weights.sum(axis=0), sums.shape)
    mean: Floats = np.divide(sums, drawn, out=np.full(sums.shape, np.nan), where=drawn > 0)
    return mean
