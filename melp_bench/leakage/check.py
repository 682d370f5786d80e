"""Are two stretches of signal one recording? The exact test behind a fingerprint's suspicion.

Two recordings of one heart in one rhythm look alike beat by beat: their correlation reaches 0.998 over 5 s. What they do not
share is how their beats *differ* from each other: breathing, noise, the small accidents of a moment. So a pair must agree in
both: the waves as a whole, and the difference of each beat from the most similar other beat.

Shapes: L leads, P pairs of leads, T samples of the overlap, A anchors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melp_bench.leakage.waves import RATE_HZ, Beats, Waves, at, live

LONG_S = 6.0
LONG_WAVES, SHORT_WAVES, VARIATION = 0.9, 0.97, 0.65
"""The least correlation: of the waves over an overlap of 6 s or more, over a shorter one, and of the beats' differences."""

LEAST_S = 2.5
WHOLE = 0.9
"""The overlap must be this much of the shorter record."""

HOPELESS = 0.75
"""A pair whose waves correlate less before the lag is refined is not looked at further."""

AROUND = round(0.3 * RATE_HZ)


@dataclass(frozen=True)
class Agreement:
    """How alike two stretches are.

    Attributes:
        lag: where the second record begins in the first, in samples at 100 Hz.
        seconds: of the overlap.
        share: of the shorter record that is in the overlap.
        waves: the median over leads of the absolute correlation of their waves.
        variation: the same, over leads and beats, of each beat's difference from the most similar other beat; 0 with one.
    """

    lag: float
    seconds: float
    share: float
    waves: float
    variation: float

    @property
    def same(self) -> bool:
        """Whether the two are one recording."""
        if self.share < WHOLE or self.seconds < LEAST_S:
            return False
        return self.waves >= (LONG_WAVES if self.seconds >= LONG_S else SHORT_WAVES) and self.variation >= VARIATION


def compare(first: Beats, second: Beats, lag: float) -> Agreement:
    """Return how alike two records are if the waves of `second` begin `lag` samples into those of `first`, give or take 1.

    Leads are paired by likeness, so that neither their order, names, signs nor gains matter; flat ones are left out.
    """
    pairs = _pairs(first.waves, second.waves, lag)
    if pairs is None:
        return Agreement(lag, 0.0, 0.0, 0.0, 0.0)
    x, y = first.waves[pairs[0]], second.waves[pairs[1]]  # (P, T)
    lag = _refined(x, y, lag)
    times = _overlap(x, y, lag)
    shorter = min(x.shape[1], y.shape[1])
    x, y = _unit(x[:, times]), _unit(at(y, times - lag))
    return Agreement(
        lag=lag,
        seconds=len(times) / RATE_HZ,
        share=len(times) / shorter,
        waves=float(np.median(np.abs((x * y).sum(axis=1)))),
        variation=_variation(x, y, first.anchors - (times[0] if len(times) else 0)),
    )


def _overlap(x: Waves, y: Waves, lag: float) -> NDArray[np.int64]:
    """Return the samples of `x` that `y` covers."""
    return np.arange(max(0, int(np.ceil(lag))), min(x.shape[1], int(np.floor(y.shape[1] - 1 + lag)) + 1))


def _unit(x: Waves) -> Waves:
    """Return each row less its mean and over its norm."""
    x = x - x.mean(axis=1, keepdims=True)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9), dtype=np.float32)


def _pairs(x: Waves, y: Waves, lag: float) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return each live lead of the record with fewer, and the most similar one of the other; None if hopeless."""
    times = _overlap(x, y, lag)
    if len(times) < max(LEAST_S * RATE_HZ, WHOLE * min(x.shape[1], y.shape[1]) - 4):
        return None
    x, y = x[:, times], at(y, times - lag)
    in_x, in_y = live(x), live(y)
    if not in_x.any() or not in_y.any():
        return None
    alike = np.abs(_unit(x) @ _unit(y).T)
    alike[~in_x], alike[:, ~in_y] = -1, -1
    by_x = in_x.sum() <= in_y.sum()
    fewer = np.flatnonzero(in_x if by_x else in_y)
    alike = alike[fewer] if by_x else alike[:, fewer].T
    if np.median(alike.max(axis=1)) < HOPELESS:
        return None
    partner = alike.argmax(axis=1)
    return (fewer, partner) if by_x else (partner, fewer)


def _refined(x: Waves, y: Waves, lag: float) -> float:
    """Return the lag near `lag` at which the pairs of leads agree best, to some hundredths of a sample."""
    for step in (0.5, 0.125):
        tried = lag + step * np.arange(-2, 3)
        values = []
        for t in tried.tolist():
            times = _overlap(x, y, t)
            values.append(float(np.abs((_unit(x[:, times]) * _unit(at(y, times - t))).sum(axis=1)).mean()))
        best = int(np.argmax(values))
        lag = float(tried[best])
        if 0 < best < 4:
            before, here, after = values[best - 1 : best + 2]
            bend = min(before - 2 * here + after, -1e-12)
            lag += step * min(max((before - after) / (2 * bend), -0.5), 0.5)
    return lag


def _variation(x: Waves, y: Waves, anchors: NDArray[np.float64]) -> float:
    """Return the median, over pairs of leads and beats, of the correlation of what tells a beat from the most similar in `x`.

    The median, because an anchor that is off its beat by the same in both has a large and shared difference.
    """
    anchors = anchors[(anchors > AROUND) & (anchors < x.shape[1] - AROUND - 2)]
    if len(anchors) < 2:
        return 0.0
    window = anchors[:, None] + np.arange(-AROUND, AROUND + 1)
    of_x, of_y = at(x, window), at(y, window)  # (P, A, 61)
    products = np.einsum("lat,lbt->ab", of_x, of_x)
    energy = np.maximum(np.diag(products), 1e-12)
    cosine = products / np.sqrt(energy[:, None] * energy)
    np.fill_diagonal(cosine, -2)
    nearest = cosine.argmax(axis=1)
    gain = products[np.arange(len(anchors)), nearest] / energy[nearest]  # (A,)
    rest_x = of_x - gain[:, None] * of_x[:, nearest]
    rest_y = of_y - gain[:, None] * of_y[:, nearest]
    norm = np.linalg.norm(rest_x, axis=2) * np.linalg.norm(rest_y, axis=2)  # (P, A)
    return float(np.median(np.abs((rest_x * rest_y).sum(axis=2)) / np.maximum(norm, 1e-12)))
