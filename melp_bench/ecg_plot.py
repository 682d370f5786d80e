"""A record as a cardiologist expects it: pink paper, 25 mm/s, 10 mm/mV, three rows of four leads and a rhythm strip.

Units: the axes are millimetres of paper.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

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
TALLEST_MM = 60.0
"""The most that the paper grows above the first row and below the last, for waves that would leave it."""


def plot_record(signal: Signal, *, title: str = "", footer: str = "", below_mm: float = 0.0) -> Figure:
    """Return a figure of a record's first 10 s in true scale (when printed at the figure's own size).

    A shorter record ends where its samples end; the place of a lead that is not there and cannot be derived is empty. Every
    lead is drawn around its median, as a recorder takes off the electrodes' own potentials, and the paper is as high as the
    waves. `title` stands above, `footer` (report, labels) below, wrapped; under it `below_mm` of the page are left for more.
    """
    whole = signal.millivolts.shape[1] / signal.rate_hz
    seconds = min(4 * COLUMN_SECONDS, whole)
    samples = _samples(signal, seconds)
    width = LEFT_MM + 4 * COLUMN_SECONDS * MM_PER_SECOND + 3.0
    top, bottom = _overshoot(samples, signal.rate_hz)
    width, height = 5 * np.ceil(width / 5), 5 * np.ceil((len(ROWS) + 1) * ROW_MM / 5) + top + bottom
    lines = [line for text in footer.splitlines() for line in textwrap.wrap(text, 165) or [""]]
    above, below = MARGIN_MM + 2.2 * LINE_MM, below_mm + MARGIN_MM + LINE_MM * (len(lines) + 1)
    page_width, page_height = width + 2 * MARGIN_MM, above + height + below
    figure = Figure(figsize=(page_width / 25.4, page_height / 25.4), dpi=150, facecolor="white")
    axes = figure.add_axes((MARGIN_MM / page_width, below / page_height, width / page_width, height / page_height))
    _draw_paper(axes, width, height)
    for row in range(len(ROWS) + 1):
        _draw_row(axes, samples, signal.rate_hz, row, height - top - ROW_MM * (row + 0.5))
    figure.text(
        MARGIN_MM / page_width,
        1 - MARGIN_MM / page_height,
        title,
        va="top",
        fontsize=10,
        weight="bold",
        color=TEXT,
        parse_math=False,
    )
    speed = f"{MM_PER_SECOND:g} mm/s   {MM_PER_MILLIVOLT:g} mm/mV   {signal.rate_hz:g} Hz"
    speed += f"   first {seconds:g} s of {whole:g} s" if whole > seconds else ""
    axes.text(width, -1.5, speed, ha="right", va="top", fontsize=7, color=TEXT)
    axes.text(
        0, -1.5 - LINE_MM, "\n".join(lines), ha="left", va="top", fontsize=8, linespacing=1.35, color=TEXT, parse_math=False
    )
    return figure


Samples = Mapping[str, NDArray[np.float32]]
"""Millivolts (T,) by lead."""


def _samples(signal: Signal, seconds: float) -> Samples:
    """Return the leads that the record has, or that follow from those, each around its median."""
    here = tuple(lead for lead in LEADS if SignalSpec(leads=(lead,)).refusal(signal.leads) is None)
    spec = SignalSpec(rate_hz=signal.rate_hz, seconds=seconds, leads=here)
    leads = torch.from_numpy(np.ascontiguousarray(signal.millivolts))[None]
    samples = conform(leads, rate_hz=signal.rate_hz, leads=signal.leads, spec=spec)[0].numpy()  # (len(here), T)
    return dict(zip(here, samples - np.median(samples, axis=1, keepdims=True), strict=True))


def _overshoot(samples: Samples, rate_hz: float) -> tuple[float, float]:
    """Return by how many millimetres, in steps of 5, the first row's waves pass the paper above, and the strip's below."""
    above = max((float(part.max()) for _, _, part in _parts(samples, rate_hz, 0)), default=0.0)
    below = max((float(-part.min()) for _, _, part in _parts(samples, rate_hz, len(ROWS))), default=0.0)
    top, bottom = (5 * np.ceil((peak * MM_PER_MILLIVOLT - ROW_MM / 2 + 1) / 5) for peak in (above, below))
    return float(np.clip(top, 0, TALLEST_MM)), float(np.clip(bottom, 0, TALLEST_MM))


def _parts(samples: Samples, rate_hz: float, row: int) -> Iterator[tuple[str, int, NDArray[np.float32]]]:
    """Yield what a row shows from left to right: a lead, its first sample there, and its samples, if there are any."""
    names = ROWS[row] if row < len(ROWS) else (STRIP if STRIP in samples else next(iter(samples)),)
    seconds = 4 * COLUMN_SECONDS / len(names)
    for column, lead in enumerate(names):
        first, last = round(column * seconds * rate_hz), round((column + 1) * seconds * rate_hz)
        if lead in samples and first < len(samples[lead]):
            yield lead, first, samples[lead][first:last]


def _draw_paper(axes: Axes, width: float, height: float) -> None:
    """Draw the millimetre grid: a fine line each millimetre, a coarse one each five."""
    axes.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[], facecolor=PAPER)
    for step, colour, weight in ((1, FINE, 0.35), (5, COARSE, 0.6)):
        upright = [[(x, 0), (x, height)] for x in np.arange(0, width + 0.1, step)]
        level = [[(0, y), (width, y)] for y in np.arange(0, height + 0.1, step)]
        axes.add_collection(LineCollection(upright + level, colors=colour, linewidths=weight, zorder=0))
    for spine in axes.spines.values():
        spine.set(edgecolor=COARSE, linewidth=0.8)


def _draw_row(axes: Axes, samples: Samples, rate_hz: float, row: int, zero: float) -> None:
    """Draw one row around the height `zero`: the calibration pulse, then four leads of 2.5 s, or the strip of 10 s."""
    pulse = [3.0, 3.0 + PULSE_MM * 0.2, 3.0 + PULSE_MM * 0.2, 3.0 + PULSE_MM * 1.2, 3.0 + PULSE_MM * 1.2, 3.0 + PULSE_MM * 1.4]
    axes.plot(pulse, zero + np.array([0, 0, 1, 1, 0, 0]) * MM_PER_MILLIVOLT, color=INK, linewidth=0.7)
    for lead, first, part in _parts(samples, rate_hz, row):
        start = LEFT_MM + first / rate_hz * MM_PER_SECOND
        if first:
            axes.plot([start, start], [zero - 2.5, zero + 2.5], color=INK, linewidth=0.7)
        x = start + np.arange(len(part)) / rate_hz * MM_PER_SECOND
        axes.plot(x, zero + part * MM_PER_MILLIVOLT, color=INK, linewidth=0.7, solid_joinstyle="round", clip_on=True)
        axes.text(start + 1.5, zero + 11.0, lead, fontsize=8, weight="bold", color=TEXT, va="bottom")
