"""Where the sentences of a report look, on ECG paper: the record, and under its rhythm strip a lane for each sentence.

Shapes: S sentences, N tokens, Q segments.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from melp_bench.components import Signal
from melp_bench.ecg_plot import COLUMN_SECONDS, LEFT_MM, MARGIN_MM, MM_PER_SECOND, TEXT, plot_record

LANE_MM, WORDS_MM = 4.0, 4.6
"""Heights of a lane and of the sentence above it."""
SHADES = LinearSegmentedColormap.from_list("attention", ["#f2f5f8", "#7fa6cf", "#12467f"])
EVEN = 1.05  # times the even share, below which no segment is preferred
LONGEST = 150
"""Letters of a sentence that are shown, at most."""


def plot_looks(
    signal: Signal,
    sentences: Sequence[str],
    time: NDArray[np.float64],
    segments: NDArray[np.float64],
    *,
    seconds: float,
    title: str = "",
    below_mm: float = 0.0,
) -> Figure:
    """Return a figure of a record with a lane per sentence; `time` (S, N) is where it looks in the record's first `seconds`,
    by way of `segments` (S, Q).

    A lane lies under the rhythm strip, second under second, and is darkest where its sentence looks most; white is chance's own
    share and less. Behind a sentence stand the segment that it attends to most, if it prefers one, and how much more than even
    its darkest place has. `below_mm` of the page are left under the lanes for more.
    """
    height = (LANE_MM + WORDS_MM) * len(sentences) + MARGIN_MM + below_mm
    figure = plot_record(signal, title=title, below_mm=height)
    page_width, page_height = (25.4 * float(inches) for inches in figure.get_size_inches())
    shown = min(seconds, 4 * COLUMN_SECONDS)
    kept = max(round(time.shape[1] * shown / seconds), 1)
    for number, (sentence, row) in enumerate(zip(sentences, time[:, :kept], strict=True)):
        bottom = height - (number + 1) * (LANE_MM + WORDS_MM)
        lane = figure.add_axes(
            (
                (MARGIN_MM + LEFT_MM) / page_width,
                (MARGIN_MM + bottom - MARGIN_MM / 2) / page_height,
                shown * MM_PER_SECOND / page_width,
                LANE_MM / page_height,
            )
        )
        even = 1 / time.shape[1]
        lane.imshow(row[None], aspect="auto", cmap=SHADES, vmin=even, vmax=max(float(row.max()), 1.5 * even))
        lane.set(xticks=[], yticks=[])
        for spine in lane.spines.values():
            spine.set(edgecolor="#c9d2da", linewidth=0.5)
        text = sentence if len(sentence) <= LONGEST else sentence[: LONGEST - 1] + "…"
        share = _preferred(segments[number])
        told = f"{text}   ({share}; darkest {float(row.max()) / even:.1f} x even)"
        lane.text(0, 1.12, told, transform=lane.transAxes, fontsize=7, color=TEXT, va="bottom", parse_math=False)
    return figure


def _preferred(shares: NDArray[np.float64]) -> str:
    """Return which of its segments (Q,) a sentence attends to most, in words."""
    most, number = int(shares.argmax()), len(shares)
    if number > 1 and shares[most] * number < EVEN:
        return f"evenly on its {number} segments"
    return f"most on segment {most + 1} of {number}: {shares[most]:.0%}"
