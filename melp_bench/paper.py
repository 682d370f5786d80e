"""A record as a cardiologist expects it: pink paper, 25 mm/s, 10 mm/mV, three rows of four leads and a rhythm strip.

Units: the axes are millimetres of paper.
"""

from __future__ import annotations

import textwrap

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from melp_bench.components import Signal
from melp_bench.signal import LEADS, SignalSpec, conform

MM_PER_SECOND = 25.0
MM_PER_MILLIVOLT = 10.0
COLUMN_SECONDS = 2.5
ROW_MM = 32.0
PULSE_MM = 5.0  # width of the calibration pulse: 0.2 s
LEFT_MM = 12.0  # room for the pulse
ROWS = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
STRIP = "II"
PAPER, FINE, COARSE, INK, TEXT = "#fff6f4", "#f8d3cf", "#eda49d", "#151515", "#3a2a2a"
MARGIN_MM = 8.0
LINE_MM = 4.6


def plot_record(signal: Signal, *, title: str = "", footer: str = "") -> Figure:
    """Return a figure of a record's first 10 s in true scale (when printed at the figure's own size).

    A shorter record ends where its samples end. `title` stands above, `footer` (report, labels) below, wrapped.
    """
    seconds = min(4 * COLUMN_SECONDS, signal.millivolts.shape[1] / signal.rate_hz)
    spec = SignalSpec(rate_hz=signal.rate_hz, seconds=seconds)
    leads = torch.from_numpy(np.ascontiguousarray(signal.millivolts))[None]
    samples = conform(leads, rate_hz=signal.rate_hz, leads=signal.leads, spec=spec)[0].numpy()  # (12, T)
    width = LEFT_MM + 4 * COLUMN_SECONDS * MM_PER_SECOND + 3.0
    width, height = 5 * np.ceil(width / 5), 5 * np.ceil((len(ROWS) + 1) * ROW_MM / 5)
    lines = [line for text in footer.splitlines() for line in textwrap.wrap(text, 165) or [""]]
    above, below = MARGIN_MM + 2.2 * LINE_MM, MARGIN_MM + LINE_MM * (len(lines) + 1)
    page_width, page_height = width + 2 * MARGIN_MM, above + height + below
    figure = Figure(figsize=(page_width / 25.4, page_height / 25.4), dpi=150, facecolor="white")
    axes = figure.add_axes((MARGIN_MM / page_width, below / page_height, width / page_width, height / page_height))
    _draw_paper(axes, width, height)
    for row in range(len(ROWS) + 1):
        _draw_row(axes, samples, signal.rate_hz, row, height - ROW_MM * (row + 0.5))
    figure.text(MARGIN_MM / page_width, 1 - MARGIN_MM / page_height, title, va="top", fontsize=10, weight="bold", color=TEXT)
    speed = f"{MM_PER_SECOND:g} mm/s   {MM_PER_MILLIVOLT:g} mm/mV   {signal.rate_hz:g} Hz"
    axes.text(width, -1.5, speed, ha="right", va="top", fontsize=7, color=TEXT)
    axes.text(0, -1.5 - LINE_MM, "\n".join(lines), ha="left", va="top", fontsize=8, linespacing=1.35, color=TEXT)
    return figure


def _draw_paper(axes: Axes, width: float, height: float) -> None:
    """Draw the millimetre grid: a fine line each millimetre, a coarse one each five."""
    axes.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[], facecolor=PAPER)
    for step, colour, weight in ((1, FINE, 0.35), (5, COARSE, 0.6)):
        upright = [[(x, 0), (x, height)] for x in np.arange(0, width + 0.1, step)]
        level = [[(0, y), (width, y)] for y in np.arange(0, height + 0.1, step)]
        axes.add_collection(LineCollection(upright + level, colors=colour, linewidths=weight, zorder=0))
    for spine in axes.spines.values():
        spine.set(edgecolor=COARSE, linewidth=0.8)


def _draw_row(axes: Axes, samples: NDArray[np.float32], rate_hz: float, row: int, zero: float) -> None:
    """Draw one row around the height `zero`: the calibration pulse, then four leads of 2.5 s, or the strip of 10 s."""
    pulse = [3.0, 3.0 + PULSE_MM * 0.2, 3.0 + PULSE_MM * 0.2, 3.0 + PULSE_MM * 1.2, 3.0 + PULSE_MM * 1.2, 3.0 + PULSE_MM * 1.4]
    axes.plot(pulse, zero + np.array([0, 0, 1, 1, 0, 0]) * MM_PER_MILLIVOLT, color=INK, linewidth=0.7)
    names = ROWS[row] if row < len(ROWS) else (STRIP,)
    seconds = 4 * COLUMN_SECONDS / len(names)
    for column, lead in enumerate(names):
        first, last = round(column * seconds * rate_hz), round((column + 1) * seconds * rate_hz)
        part = samples[LEADS.index(lead), first:last]
        x = LEFT_MM + (first + np.arange(len(part))) / rate_hz * MM_PER_SECOND
        if column:
            axes.plot([x[0], x[0]] if len(x) else [], [zero - 2.5, zero + 2.5] if len(x) else [], color=INK, linewidth=0.7)
        axes.plot(x, zero + part * MM_PER_MILLIVOLT, color=INK, linewidth=0.7, solid_joinstyle="round", clip_on=True)
        start = LEFT_MM + column * seconds * MM_PER_SECOND
        axes.text(start + 1.5, zero + 11.0, lead, fontsize=8, weight="bold", color=TEXT, va="bottom")
