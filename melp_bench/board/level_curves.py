"""Scores against what an evaluation varies: the share of labels, the noise of a record, the number of examples.

What is varied is read from the settings of columns: "10 %", "mains 6 dB", "5 per class" are levels of a family each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from melp_bench.board.figures import metric_text, spoken
from melp_bench.board.plots import BOTTOM, DRAWN, LEFT, RIGHT, TOP, Mark, Tick, drawn_of, path_through, placed, span, ticks_up
from melp_bench.board.sections import Column, Method, Table
from melp_bench.results import MetricLabel, Score

SPREAD = 8  # levels that differ by this factor are drawn on a logarithmic axis
MOST = 8  # levels that are written on an axis


@dataclass(frozen=True)
class Panel:
    """One method's curve and, behind it, everyone's."""

    label: str
    line: str
    marks: tuple[Mark, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class LevelCurves:
    """Score against a level, a panel per method, all on one scale."""

    title: str  # what is varied
    against: str  # in words, what the axis is
    evaluation: str
    metric: str
    panels: tuple[Panel, ...]
    xticks: tuple[Tick, ...]
    yticks: tuple[Tick, ...]
    drawn: str  # of how many methods these are, where not all
    width: float = 232.0
    height: float = 150.0


def level_of(setting: str) -> tuple[str, float, str] | None:
    """Return what a setting varies, the level and its unit, of "mains 6 dB" or "1 %"; None where it has no number."""
    match = re.fullmatch(r"(?P<what>\D*?)\s*(?P<level>[-−]?\d+(?:\.\d+)?)\s*(?P<unit>.*)", setting.strip())
    if match is None:
        return None
    return match["what"].strip(), float(match["level"].replace("−", "-")), match["unit"].strip()


def level_curves(table: Table) -> list[LevelCurves]:
    """Return the curves of each evaluation of a task that has rows at two levels of something or more."""
    families: dict[tuple[str, str, str], list[tuple[float, Column]]] = {}
    for column in table.columns:
        varied, _, more = column.setting.partition(" (")  # "1 % (softmax)": how else it is measured is one family
        if (found := level_of(varied)) is not None and column.metric is not None:
            what, level, unit = found
            evaluation = f"{column.evaluation} ({more}" if more else column.evaluation
            families.setdefault((evaluation, what, unit), []).append((level, column))
    found_curves = [_family(table, *family, columns) for family, columns in families.items()]
    return [curves for curves in found_curves if curves is not None]


def _family(table: Table, evaluation: str, what: str, unit: str, columns: Sequence[tuple[float, Column]]) -> LevelCurves | None:
    label = columns[0][1].metric
    if len({f for f, _ in columns}) < max(2, len(columns)) or len({c.primary for _, c in columns}) > 1 or label is None:
        return None
    ordered = sorted(columns, key=lambda pair: pair[0])
    scores = {m: found for m in table.methods if (found := _curve(ordered, m))}
    everything = [score for curve in scores.values() for score in curve.values()]
    if not everything:
        return None
    bottom, top = span(everything, label)
    height = LevelCurves.height

    def y(value: float) -> float:
        return placed(value, bottom, top, height - BOTTOM, TOP)

    xs = _places([level for level, _ in ordered])
    told = {level: f"{level:g} {unit}".strip() for level in xs}
    chosen = [anchor for anchor in ordered[-1][1].best if anchor in {m.anchor for m in scores}][:DRAWN]
    chosen = chosen if len(scores) > DRAWN else [m.anchor for m in scores]
    lines = {m: path_through([(xs[level], y(s.value)) for level, s in curve.items()]) for m, curve in scores.items()}
    panels = tuple(
        Panel(
            label=method.label,
            line=lines[method],
            marks=tuple(_mark(xs[level], score, told[level], label, (bottom, top)) for level, score in curve.items()),
            others=tuple(line for other, line in lines.items() if other is not method),
        )
        for method, curve in scores.items()
        if method.anchor in chosen
    )
    every = math.ceil(len(xs) / MOST)
    short = unit if len(unit) <= 2 else ""  # a longer one stands in the caption
    xticks = tuple(Tick(x, f"{level:g} {short}".strip()) for level, x in list(xs.items())[::every])
    title, against = _said(what, unit)
    yticks = ticks_up(bottom, top, height - BOTTOM, TOP)
    return LevelCurves(title, against, evaluation, metric_text(label), panels, xticks, yticks, drawn_of(len(scores)))


def _said(what: str, unit: str) -> tuple[str, str]:
    """Return what the curves are, and what is along their axis."""
    if (what, unit) == ("", "%"):
        return "Label efficiency", "the share of labels it is given"
    if unit == "dB":
        return what.capitalize() or "Noise", "the signal-to-noise ratio in dB"
    return (what or unit).capitalize(), unit or what


def _places(levels: Sequence[float]) -> dict[float, float]:
    """Return where levels, the lowest first, stand along the axis: logarithmically if they span much, else evenly."""
    is_wide = levels[0] > 0 and levels[-1] / levels[0] >= SPREAD
    scale = [math.log10(level) for level in levels] if is_wide else list(levels)
    start, end = LEFT + 10, LevelCurves.width - RIGHT - 10
    return {level: placed(value, scale[0], scale[-1], start, end) for level, value in zip(levels, scale, strict=True)}


def _mark(x: float, score: Score, told: str, label: MetricLabel, scale: tuple[float, float]) -> Mark:
    floor = LevelCurves.height - BOTTOM
    y, low, high = (placed(value, *scale, floor, TOP) for value in (score.value, score.low, score.high))
    return Mark(x, y, low, high, f"{told}: {spoken(score, label)}")


def _curve(columns: Sequence[tuple[float, Column]], method: Method) -> dict[float, Score]:
    cells = {level: (column, column.cells.get(method.anchor)) for level, column in columns}
    return {level: score for level, (column, cell) in cells.items() if cell and (score := cell.score(column.primary))}
