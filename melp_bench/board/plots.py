"""Where the ink of the plots goes; the template draws it. Coordinates are in SVG units, y down, one decimal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from melp_bench.board.escape import plain
from melp_bench.board.figures import metric_text, spoken, tick_text, width_of
from melp_bench.board.sections import Column, Method, Table
from melp_bench.results import MetricLabel, ResultRecord, Score

LEFT, RIGHT, TOP, BOTTOM = 34.0, 8.0, 8.0, 22.0
ROOM = 70.0  # for the labels on the right of the Pareto plot


DRAWN = 12  # methods that have a panel, or a step of a staircase: the best; of more no page has room and no eye sees


def drawn_of(methods: int) -> str:
    """Return what is drawn of so many methods, where that is not all."""
    return f"the {DRAWN} best of {methods} methods are drawn" if methods > DRAWN else ""


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A score with its interval: centre, ends, and what to say of it."""

    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Pareto:
    """Score against speed, with the front of methods that no other beats in both."""

    measurement: str
    metric: str
    better: str  # "up" or "down"
    marks: tuple[Mark, ...]
    on_front: tuple[bool, ...]
    labels: tuple[Tick, ...]  # `at` is the label's y
    front: str
    xticks: tuple[Tick, ...]
    yticks: tuple[Tick, ...]
    width: float = 372.0
    height: float = 226.0


@dataclass(frozen=True)
class Curve:
    """One quantity over pretraining, drawn small; `first` and `last` are its ends in words."""

    name: str
    line: str
    first: str
    last: str
    width: float = 160.0
    height: float = 44.0


def curves(record: ResultRecord) -> tuple[Curve, ...]:
    """Return the curves of the model's pretraining history, by name, where its facts hold one."""
    pretraining = record.facts.get("pretraining")
    history = pretraining.get("history") if isinstance(pretraining, dict) else None
    if not isinstance(history, dict):
        return ()
    found = {name: [float(v) for v in values if is_finite(v)] for name, values in history.items() if isinstance(values, list)}
    return tuple(
        _small(plain(name), v) for name, v in sorted(found.items()) if len(v) > 1 and name != "step"
    )  # step: the x axis


def _small(name: str, values: Sequence[float]) -> Curve:
    low, high, last = min(values), max(values), len(values) - 1
    bottom = Curve.height - 3
    points = [(placed(i, 0, last, 2, Curve.width - 2), placed(v, low, high, bottom, 3)) for i, v in enumerate(values)]
    return Curve(name, path_through(points), f"{values[0]:.3g}", f"{values[-1]:.3g}")


def is_finite(value: object) -> bool:
    """Whether a piece of plain JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def span(scores: Sequence[Score], label: MetricLabel) -> tuple[float, float]:
    """Return the scale that shows every interval: outward to the next round step, within the metric's bounds."""
    low, high = min(min(s.low, s.value) for s in scores), max(max(s.high, s.value) for s in scores)
    room = width_of(label) or max(abs(low), abs(high)) or 1.0
    step = round_step(max((high - low) / 4, room / 20))
    least, most = (end if end is not None else far for end, far in zip(label.bounds, (-math.inf, math.inf), strict=True))
    bottom, top = max(_down(low, step), min(least, low)), min(-_down(-high, step), max(most, high))
    if top > bottom:
        return bottom, top
    return max(bottom - step, min(least, low)), min(top + step, max(most, high))


def round_step(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten, the first that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * (1 - 1e-9))


def _down(value: float, step: float) -> float:
    """Return the multiple of `step` at or next below `value`, without the dust of floating point."""
    multiple = round(math.floor(value / step + 1e-9) * step, 12)
    return min(multiple, value)


def pareto(table: Table) -> Pareto | None:
    """Return score against throughput for the last measurement that covers most methods; None below two points."""
    speeds = {m: speed for m in table.methods if (speed := m.fact("records_per_second")) is not None}
    found = [(column, _scored(column, speeds)) for column in table.columns]
    column, scores = max(reversed(found), key=lambda pair: len(pair[1]))
    if len(scores) < 2 or (label := column.metric) is None:
        return None
    sign = 1.0 if label.higher_is_better else -1.0
    bottom, top = span(list(scores.values()), label)
    width, floor = Pareto.width, Pareto.height - BOTTOM - 12
    logs = [math.log10(speeds[m]) for m in scores]
    first, last = min(logs) - 0.15, max(logs) + 0.15
    points = sorted(scores, key=lambda m: (-speeds[m], -sign * scores[m].value, m.label))
    xs = {m: placed(math.log10(speeds[m]), first, last, LEFT, width - RIGHT - ROOM) for m in points}
    ys = {m: [placed(v, bottom, top, floor, TOP) for v in (scores[m].value, scores[m].low, scores[m].high)] for m in points}
    on_front = tuple(
        all(sign * scores[m].value > sign * scores[faster].value for faster in points[:i]) for i, m in enumerate(points)
    )
    front = [(xs[m], ys[m][0]) for m, keep in zip(points, on_front, strict=True) if keep]
    label_ys = _spread({m.anchor: (xs[m], ys[m][0]) for m in points})
    return Pareto(
        measurement=column.measurement,
        metric=metric_text(label),
        better="up" if label.higher_is_better else "down",
        marks=tuple(
            Mark(xs[m], ys[m][0], ys[m][1], ys[m][2], f"{m.label}: {spoken(scores[m], label)} at {speeds[m]:,.0f} records/s")
            for m in points
        ),
        on_front=on_front,
        labels=tuple(Tick(label_ys[m.anchor], m.label) for m in points),
        front=_stairs(front),
        xticks=tuple(
            Tick(placed(math.log10(v), first, last, LEFT, width - RIGHT - ROOM), f"{v:,g}") for v in _round(first, last)
        ),
        yticks=ticks_up(bottom, top, floor, TOP),
    )


def _scored(column: Column, speeds: Mapping[Method, float]) -> dict[Method, Score]:
    cells = {method: column.cells.get(method.anchor) for method in speeds}
    return {method: score for method, cell in cells.items() if cell and (score := cell.score(column.primary))}


def placed(value: float, low: float, high: float, start: float, end: float) -> float:
    """Return where between `start` and `end` a value between `low` and `high` is drawn."""
    return round(start + (value - low) / ((high - low) or 1.0) * (end - start), 1)


def path_through(points: Sequence[tuple[float, float]]) -> str:
    """Return the path of straight lines through points."""
    return "M" + " L".join(f"{x} {y}" for x, y in points)


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    """Return the front as steps: between two of its points nothing faster is as good as the slower one."""
    corners = [corner for (_, y), (nx, ny) in pairwise(points) for corner in ((nx, y), (nx, ny))]
    return path_through([*points[:1], *corners])


def _spread(points: Mapping[str, tuple[float, float]], gap: float = 11.5) -> dict[str, float]:
    """Return a y for each label, moved down where labels of neighbours would touch."""
    placed: dict[str, float] = {}
    for key, (x, y) in sorted(points.items(), key=lambda item: (item[1][1], item[0])):
        near = [placed[k] for k, (other, _) in points.items() if k in placed and abs(other - x) < 70]
        placed[key] = round(max([y, *(n + gap for n in near if n + gap > y)]), 1)
    return placed


def ticks_up(bottom: float, top: float, start: float, end: float) -> tuple[Tick, ...]:
    """Return at most six round values from bottom to top, placed between `start` and `end`."""
    step = round_step((top - bottom) / 5)
    first, last = math.ceil(bottom / step - 1e-9), math.floor(top / step + 1e-9)
    values = [k * step for k in range(first, last + 1)]
    return tuple(Tick(placed(v, bottom, top, start, end), tick_text(v, step)) for v in values)


def _round(first: float, last: float) -> list[float]:
    """Return three to six round values between two logarithms; fewer where they are so close that there is nothing round."""
    found: list[float] = []
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(d / 10 for d in range(10, 100))):
        values = [m * 10.0**e for e in range(math.floor(first), math.ceil(last) + 1) for m in digits]
        found = [v for v in values if first <= math.log10(v) <= last]
        if len(found) >= 3:
            break
    return found[:: math.ceil(len(found) / 6) or 1]
