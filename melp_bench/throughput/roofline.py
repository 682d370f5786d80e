"""A roofline: how near each encoder comes to what its device can do, a panel per device and number type.

Method: Williams, Waterman and Patterson 2009, https://doi.org/10.1145/1498765.1498785. Across: operations per byte that must be
moved at least; up: operations per second. The roof is the lower of the measured product and of the measured copy times that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from melp_bench.throughput.measurements import MeasuredFigure

INK, GREY = "#12467f", "#8a939c"


@dataclass(frozen=True)
class Point:
    """A kernel at its best batch: operations per byte, and operations per second with quartiles."""

    kernel: str
    provider: str
    intensity: float
    flops: float
    low: float
    high: float


@dataclass(frozen=True)
class Roofline:
    """What was measured on one device in one number type; `flops` and `bandwidth` (read and written) are its roofs."""

    device: str
    version: str
    dtype: str
    flops: float
    bandwidth: float
    points: tuple[Point, ...]

    def roof(self, intensity: float) -> float:
        """Return the operations per second that are possible at so many operations per byte."""
        return min(self.flops, self.bandwidth * intensity)


def rooflines(rows: Sequence[MeasuredFigure]) -> list[Roofline]:
    """Return a roofline for each device, version and number type of which the roofs were measured."""
    groups: dict[tuple[str, str], list[MeasuredFigure]] = defaultdict(list)
    for row in rows:
        groups[row.device, row.version].append(row)
    found = []
    for (device, version), members in sorted(groups.items()):
        copies = [row.median for row in members if row.kernel == "copy"]
        peaks = {row.provider.split()[-1]: row.median for row in members if row.kernel == "matmul"}
        for dtype, peak in sorted(peaks.items()):
            if copies:
                points = tuple(_points(members, dtype))
                found.append(Roofline(device, version, dtype, peak, 2 * copies[-1], points))
    return found


def _points(rows: Sequence[MeasuredFigure], dtype: str) -> list[Point]:
    """Return the kernels of one device that ran in this number type, each at its best batch."""
    named = {(row.kernel, row.provider, row.metric, row.x): row for row in rows if row.mode == "forward"}
    found = []
    for (kernel, provider, metric, batch), flops in sorted(named.items()):
        moved = named.get((kernel, provider, "bytes", batch))
        rate = named.get((kernel, provider, "records_per_second", batch))
        best = [row.median for (k, p, m, _), row in named.items() if (k, p, m) == (kernel, provider, "best_batch")]
        if metric != "flops" or provider.split()[-1] != dtype or moved is None or rate is None or batch not in best:
            continue
        of_record = flops.median / batch
        speeds = [of_record * value for value in (rate.median, rate.low, rate.high)]
        found.append(Point(kernel, provider, flops.median / moved.median, *speeds))
    return found


def plot_rooflines(lines: Sequence[Roofline]) -> Figure:
    """Return a figure with a panel per roofline; rows of two devices are in no panel together."""
    figure = Figure(figsize=(6.4, 4.2 * max(len(lines), 1)), layout="constrained")
    panels = figure.subplots(max(len(lines), 1), 1, squeeze=False)[:, 0]
    for panel, line in zip(panels, lines, strict=False):
        _panel(panel, line)
    return figure


def _panel(panel: Axes, line: Roofline) -> None:
    ridge = line.flops / line.bandwidth
    xs = [point.intensity for point in line.points] or [ridge]
    across = np.geomspace(min(*xs, ridge) / 4, max(*xs, ridge) * 4, 200)
    panel.plot(across, [line.roof(x) for x in across], color=GREY, lw=1.5)
    for point in line.points:
        compiled = point.provider.startswith("compiled")
        panel.errorbar(
            point.intensity,
            point.flops,
            yerr=[[max(point.flops - point.low, 0)], [max(point.high - point.flops, 0)]],
            fmt="s" if compiled else "o",
            color=INK,
            ms=4,
            lw=1,
        )
        panel.annotate(
            point.kernel, (point.intensity, point.flops), xytext=(5, -3), textcoords="offset points", fontsize=7, color=INK
        )
    panel.set(xscale="log", yscale="log", xlabel="operations per byte moved at least", ylabel="operations per second")
    panel.set_title(f"{line.device}, {line.dtype}; {line.version}\nround: eager, square: compiled", fontsize=8, loc="left")
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
