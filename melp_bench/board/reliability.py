"""Reliability: of the records that a method says have a class with 70 %, how many have it (Guo et al. 2017, arXiv 1706.04599).

Drawn from the predictions that are kept beside rows, where they are here and are probabilities. Records and classes are pooled
in equal bins of the probability, the mean over probe seeds; a single class has its own error beside its score.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melp_bench.board.level_curves import Panel
from melp_bench.board.plots import BOTTOM, DRAWN, LEFT, RIGHT, TOP, Mark, Tick, drawn_of, path_through, placed, ticks_up
from melp_bench.board.sections import Column, Table
from melp_bench.errors import UserError
from melp_bench.prediction_files import predictions_path, read_predictions
from melp_bench.predictions import Predictions

BINS = 10
NORMAL = 1.959964  # the 97.5 % point of the normal distribution
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityBin:
    """Records and classes whose probability lies in one bin: how many, mean probability, frequency and its 95 % interval."""

    count: int
    probability: float
    frequency: float
    low: float
    high: float


@dataclass(frozen=True)
class Reliability:
    """Frequency against probability under one measurement, a panel per method."""

    measurement: str
    panels: tuple[Panel, ...]
    xticks: tuple[Tick, ...]
    yticks: tuple[Tick, ...]
    diagonal: str
    drawn: str  # of how many methods these are, where not all
    width: float = 190.0
    height: float = 178.0


def reliability_bins(predictions: Predictions, bins: int = BINS) -> list[ReliabilityBin]:
    """Return the bins that are not empty; none where scores are no probabilities. Intervals are Wilson's (1927)."""
    if predictions.kind not in ("logit", "probability"):
        return []
    scores = predictions.scores.astype(np.float64)
    with np.errstate(over="ignore"):
        seeds = 1 / (1 + np.exp(-scores)) if predictions.kind == "logit" else scores
    said = seeds.mean(axis=0).ravel()  # (N * C,)
    truth = predictions.labels.ravel().astype(np.float64)
    place = np.clip((said * bins).astype(np.int64), 0, bins - 1)
    found = []
    for number in range(bins):
        inside = place == number
        if (count := int(inside.sum())) == 0:
            continue
        frequency = float(truth[inside].mean())
        scale = 1 + NORMAL**2 / count
        middle = (frequency + NORMAL**2 / (2 * count)) / scale
        half = NORMAL * np.sqrt(frequency * (1 - frequency) / count + NORMAL**2 / (4 * count**2)) / scale
        low, high = min(max(middle - half, 0.0), frequency), max(min(middle + half, 1.0), frequency)
        found.append(ReliabilityBin(count, float(said[inside].mean()), frequency, float(low), float(high)))
    return found


def reliabilities(table: Table, results: Path | None) -> list[Reliability]:
    """Return a plot per measurement of a task whose predictions are in the folder of results, and are probabilities."""
    if results is None:
        return []
    found = [(column, _curves(column, table, results)) for column in table.columns]
    return [_drawn(column, curves) for column, curves in found if curves]


def _curves(column: Column, table: Table, results: Path) -> dict[str, list[ReliabilityBin]]:
    """Return the bins by the label of each method, of many the best, whose predictions are here and whole."""
    found = {}
    chosen = set(column.best[:DRAWN])
    for method in (one for one in table.methods if one.anchor in chosen):
        cell = column.cells.get(method.anchor)
        named = cell.record.predictions if cell is not None else ""
        if not named or not predictions_path(results, named).is_file():
            continue
        try:
            bins = reliability_bins(read_predictions(results, named))
        except UserError:
            continue  # `results verify` names what is damaged
        if bins:
            found[method.label] = bins
    return found


def _drawn(column: Column, curves: dict[str, list[ReliabilityBin]]) -> Reliability:
    right, floor = Reliability.width - RIGHT, Reliability.height - BOTTOM

    def x(value: float) -> float:
        return placed(value, 0, 1, LEFT, right)

    def y(value: float) -> float:
        return placed(value, 0, 1, floor, TOP)

    lines = {label: path_through([(x(one.probability), y(one.frequency)) for one in bins]) for label, bins in curves.items()}
    panels = tuple(
        Panel(
            label=label,
            line=lines[label],
            marks=tuple(Mark(x(b.probability), y(b.frequency), y(b.low), y(b.high), _told(b)) for b in bins),
            others=(),
        )
        for label, bins in curves.items()
    )
    diagonal = path_through([(x(0), y(0)), (x(1), y(1))])
    xticks = tuple(Tick(x(value), f"{value:g}") for value in (0.0, 0.5, 1.0))
    return Reliability(column.measurement, panels, xticks, ticks_up(0, 1, floor, TOP), diagonal, drawn_of(len(column.best)))


def _told(one: ReliabilityBin) -> str:
    return f"said {one.probability:.2f}, was {one.frequency:.2f} [{one.low:.2f}, {one.high:.2f}] of {one.count:,}"
