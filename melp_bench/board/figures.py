"""How numbers and metrics are written: a score never without its interval, as many digits as its metric needs."""

from __future__ import annotations

import math

from melp_bench.board.escape import plain
from melp_bench.results import MetricLabel, Score

DIGITS = 3
ABOUT = 4  # significant digits where bounds do not say how large a number can be


def triple(score: Score, label: MetricLabel) -> tuple[str, str, str]:
    """Return value, low and high as text: three decimals of what lies within one unit, else about four digits."""
    decimals = _decimals(score, label)
    value, low, high = (_text(number, decimals) for number in (score.value, score.low, score.high))
    return value, low, high


def spoken(score: Score, label: MetricLabel) -> str:
    """Return a score as text with its interval."""
    value, low, high = triple(score, label)
    return f"{value} [{low}, {high}]"


def metric_text(label: MetricLabel) -> str:
    """Return the metric's name as a reader says it, with its direction where that is not the usual one."""
    return plain(label.label) + ("" if label.higher_is_better else ", lower is better")


def width_of(label: MetricLabel) -> float | None:
    """Return the distance of the metric's bounds, or None where one is missing."""
    low, high = label.bounds
    return None if low is None or high is None else high - low


def signed(value: float, decimals: int) -> str:
    """Return a number with a true minus, and zero without one."""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def tick_text(value: float, step: float) -> str:
    """Return a value on an axis whose ticks are `step` apart."""
    return _text(value, max(0, math.ceil(-math.log10(step) - 1e-9)))


def _decimals(score: Score, label: MetricLabel) -> int:
    width = width_of(label)
    if width is not None and width <= 2:
        return DIGITS
    largest = max(abs(score.value), abs(score.low), abs(score.high))
    return DIGITS if largest == 0 else max(0, min(9, ABOUT - 1 - math.floor(math.log10(largest))))


def _text(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}" if abs(value) >= 10_000 else f"{value:.{decimals}f}"
