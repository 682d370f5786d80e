"""The fingerprint of a stretch of signal: 32 small integers per anchor, alike if and only if the stretches are.

A code describes 2.5 s around an anchor: the mean over leads of the squared waves, each lead over its own energy in these
2.5 s, the anchor's own 0.26 s left out because every beat looks alike there. The square root of that curve, less its mean and
over its norm, is given by its first 32 cosine coefficients. It depends on these 2.5 s alone, so a cut-out has the codes of
the whole; and on no lead's place, name, sign or gain. Codes of one stretch in two packagings differ by about 0.01 (1 is the
norm), of two recordings by about 1, and below 0.15 in some 2 of 10,000 pairs of anchors.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from melp_bench.leakage.waves import LIVE_MILLIVOLT, RATE_HZ, SMOOTH, Beats, slices

SIZE = 32
HALF = round(1.25 * RATE_HZ)
HOLE = round(0.13 * RATE_HZ)
SCALE = 254.0
"""Codes are kept as int8 of this many steps to 1; a coefficient beyond a half, as 2 of 100 are, is cut,
which brings no two codes further apart."""


def codes(record: Beats) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Return the codes (A, 32) of a record and their times (A,) in seconds; of anchors with 1.25 s on either side only."""
    anchors = record.anchors
    anchors = anchors[(anchors >= HALF + 1) & (anchors <= record.waves.shape[1] - HALF - 3)]
    if not len(anchors):
        return np.zeros((0, SIZE), dtype=np.int8), np.zeros(0)
    around = slices(record.waves, anchors - HALF, 2 * HALF + 1)  # (L, A, 251)
    energy = np.square(around).mean(axis=2)  # (L, A)
    weight = np.where(energy > LIVE_MILLIVOLT**2, 1 / np.maximum(energy, LIVE_MILLIVOLT**2), 0)
    weight /= np.maximum((weight > 0).sum(axis=0), 1)
    curve = np.einsum("lat,la->at", np.square(around), weight.astype(np.float32))
    shape = np.sqrt(np.maximum(curve @ _smoothing(), 0))
    shape -= shape.mean(axis=1, keepdims=True)
    shape /= np.maximum(np.linalg.norm(shape, axis=1, keepdims=True), 1e-9)
    coefficients = fft.dct(shape, axis=1, norm="ortho")[:, 1 : SIZE + 1]
    kept = np.rint(np.clip(coefficients * SCALE, -127, 127)).astype(np.int8)
    return kept, anchors / RATE_HZ + record.begin_s


@cache
def _smoothing() -> NDArray[np.float32]:
    """Return the matrix (251, kept) that smooths a curve, takes every second sample and leaves out those at the anchor."""
    length, reach = 2 * HALF + 1, len(SMOOTH) // 2
    kept = [t for t in range(1, length, 2) if abs(t - HALF) > HOLE]
    matrix = np.zeros((length, len(kept)), dtype=np.float32)
    for column, t in enumerate(kept):
        for k, weight in enumerate(SMOOTH):
            if 0 <= t + k - reach < length:
                matrix[t + k - reach, column] = weight
    return matrix
