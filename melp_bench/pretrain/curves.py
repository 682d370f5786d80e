"""The curves of a pretraining as a picture, from its log: terms, validation, learning rate, gradient, speed, embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#1f5fa8", "#d1701e", "#3f8f5b", "#8a4fa3", "#b3364b", "#5f6b73")
QUIET, TEXT = "#9aa3aa", "#2b3238"
MOST = 1500
"""Points of a curve, at most: of a longer run every so many-th is drawn."""
NARROW = 0.05
"""The least share of all steps that a stage has, for its name to be written."""

Values = Mapping[str, Any]
Points = tuple[list[float], list[float]]


def read_log(path: Path) -> list[Values]:
    """Return the values of all steps and validations of a log, in order; of what stands there twice, after a kill, the last."""
    found: dict[tuple[str, str, int], Values] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                values = json.loads(line)
                found[(values["stage"], values["part"], values["step"])] = values
            except (ValueError, KeyError, TypeError):  # a line that a kill cut short
                continue
    return list(found.values())


def curves_figure(log: Sequence[Values], *, title: str) -> Figure:
    """Return a figure of six panels over the steps of all stages, one stage after the other."""
    begins = _begins(log)
    trained = [values for values in log if values["part"] == "train"]
    validated = [values for values in log if values["part"] == "validation"]
    figure = Figure(figsize=(11, 6.2), dpi=110, facecolor="white")
    figure.suptitle(title, fontsize=11, color=TEXT, parse_math=False)
    terms, validation, rate, gradient, speed, health = figure.subplots(2, 3).flat
    figure.subplots_adjust(left=0.045, right=0.985, bottom=0.05, top=0.9, wspace=0.24, hspace=0.2)
    _draw(terms, "terms of the loss, each step", _by_name(trained, begins, "terms"), thin=True)
    _draw(validation, "terms of the loss, validation", _by_name(validated, begins, "terms"), marked=True)
    _draw(rate, "learning rate", {"": _points(trained, begins, "learning_rate")})
    _draw(gradient, "norm of the gradient, before clipping", {"": _points(trained, begins, "gradient_norm")}, thin=True)
    gradient.set_yscale("log")
    _draw(speed, "records per second", {"": _points(trained, begins, "records_per_second")}, thin=True)
    steps, waiting = _points(trained, begins, "waiting")
    if steps:
        share = speed.twinx()
        share.plot(steps, waiting, color=COLOURS[1], linewidth=0.8)
        share.set_ylim(0, 1)
        share.set_ylabel("share of time spent waiting", fontsize=7, color=COLOURS[1])
        share.tick_params(labelsize=7, colors=COLOURS[1], length=2)
    _draw(health, "effective rank (log), variance, temperatures", _by_name(validated, begins, "numbers"), marked=True)
    health.set_yscale("log")
    for axes in (terms, validation, rate, gradient, speed, health):
        _mark_stages(axes, begins, last=max((_place(v, begins) for v in log), default=1))
    return figure


def _begins(log: Iterable[Values]) -> dict[str, int]:
    """Return by stage, in order, after how many steps of all stages it begins."""
    lengths = {values["stage"]: int(values["steps"]) for values in log}
    begins, total = {}, 0
    for stage, steps in lengths.items():
        begins[stage] = total
        total += steps
    return begins


def _place(values: Values, begins: Mapping[str, int]) -> int:
    return begins[values["stage"]] + int(values["step"])


def _points(log: Sequence[Values], begins: Mapping[str, int], name: str) -> Points:
    """Return one quantity over the steps."""
    return _thinned((_place(values, begins), float(values.get(name, 0.0))) for values in log)


def _by_name(log: Sequence[Values], begins: Mapping[str, int], group: str) -> dict[str, Points]:
    """Return each quantity of a group over the steps; a term of two stages is one curve."""
    names = dict.fromkeys(name for values in log for name in values.get(group, ()))
    return {
        name: _thinned((_place(v, begins), float(v[group][name])) for v in log if name in v.get(group, ())) for name in names
    }


def _thinned(pairs: Iterator[tuple[int, float]]) -> Points:
    points = list(pairs)
    kept = points[:: max(len(points) // MOST, 1)]
    return [float(step) for step, _ in kept], [value for _, value in kept]


def _draw(axes: Axes, title: str, curves: Mapping[str, Points], *, thin: bool = False, marked: bool = False) -> None:
    """Draw curves over the steps, named in a legend where they have names."""
    axes.set_title(title, fontsize=8, color=TEXT, loc="left")
    axes.tick_params(which="both", labelsize=7, colors=TEXT, length=2)
    axes.grid(color="#e6e9eb", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for number, (name, (steps, values)) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        style = {"linestyle": "--"} if number >= len(COLOURS) else {}
        axes.plot(
            steps, values, color=colour, linewidth=0.8 if thin else 1.4, marker="o" if marked else "", markersize=2.5,
            label=name, **style,  # type: ignore[arg-type]
        )  # fmt: skip
    if any(curves):
        axes.legend(fontsize=6.5, frameon=False, ncols=2 if len(curves) > 4 else 1)


def _mark_stages(axes: Axes, begins: Mapping[str, int], *, last: int) -> None:
    """Draw where each stage but the first begins, and name those that are not too short, if there are several."""
    axes.set_xlim(0, max(last, 1))
    if len(begins) < 2:
        return
    ends = dict(zip(begins, [*list(begins.values())[1:], last], strict=True))
    for stage, begin in begins.items():
        if begin:
            axes.axvline(begin, color=QUIET, linewidth=0.8, linestyle=":")
        if ends[stage] - begin < NARROW * last:
            continue
        axes.annotate(
            stage, (begin, 1.0), xycoords=("data", "axes fraction"), fontsize=6, color=QUIET, rotation=90,
            ha="left", va="top", xytext=(2, -2), textcoords="offset points",
        )  # fmt: skip
