"""Scored records to look at: each on ECG paper with its classes' scores as a PNG, all on one HTML page, and a CSV.

Units: a figure's lengths are millimetres of paper.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from melp_bench.board.escape import csv_text, plain
from melp_bench.ecg_plot import LEFT_MM, MARGIN_MM, TEXT, plot_record
from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder
from melp_bench.runs.loaded import LoadedModel
from melp_bench.runs.predicting import Scored
from melp_bench.runs.probes import ProbeHeader

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, TABLE, TEMPLATE = "index.html", "scores.csv", "predictions.html.j2"
MOST_BARS = 12
"""Classes of the highest scores that a figure has a bar of."""
ROW_MM, NAME_MM, BAR_MM = 5.0, 60.0, 110.0
MOST_EMBEDDED = 100
"""Records whose pictures are in the page itself."""
Shown = Sequence[dict[str, Any]]
"""By record: the record without its signal, and the source of its picture."""
BAR, TRACK = "#12467f", "#e4ebf2"


def write_predictions(records: Iterable[Scored], model: LoadedModel, header: ProbeHeader, out: Path) -> list[Path]:
    """Write a PNG of every scored record, the table of all scores, and the page of all; return the files.

    Records are taken one by one, and their signals are let go. Pictures are in the page itself, or beside it if there are many.

    Raises:
        UserError: they cannot be written.
    """
    make_folder(out)
    names, pictures, shown = FileNames(), list[Path](), list[dict[str, Any]]()
    for number, record in enumerate(records):
        name, source = names.of(record.path), ""
        if record.scores is not None:
            content = _png(scored_figure(record, title=f"{record.path.name} · {model.name} · {header.task}"))
            pictures.append(out / name)
            atomic_write(pictures[-1], content)
            embedded = number < MOST_EMBEDDED
            source = f"data:image/png;base64,{base64.b64encode(content).decode()}" if embedded else name
        shown.append({"record": replace(record, signal=None), "source": source})
    atomic_write(out / TABLE, _table(shown))
    atomic_write(out / PAGE, _page(shown, model, header))
    return [*pictures, out / TABLE, out / PAGE]


def scored_figure(record: Scored, *, title: str = "") -> Figure:
    """Return a figure of a scored record: its leads, lanes of attention where the model has it, and a bar for each class.

    Raises:
        UserError: the record was not scored.
    """
    from melp_bench.pretrain.attention_plot import plot_looks

    if record.signal is None or record.scores is None:
        raise UserError(f"{str(record.path)!r} was not scored: {record.reason}")
    title = plain(title)
    bars = list(record.scores.items())[:MOST_BARS]
    more = len(record.scores) - len(bars)
    room = ROW_MM * (len(bars) + bool(more)) + MARGIN_MM
    looks = record.attention
    if looks is None:
        figure = plot_record(record.signal, title=title, below_mm=room)
    else:
        figure = plot_looks(
            record.signal,
            [plain(sentence) for sentence in looks.sentences],
            looks.time,
            looks.segments,
            seconds=looks.seconds,
            title=title,
            below_mm=room,
        )
    _draw_bars(figure, bars, more, room)
    return figure


def _draw_bars(figure: Figure, bars: Sequence[tuple[str, float]], more: int, room: float) -> None:
    """Draw a bar for each class into the last `room` millimetres of the page."""
    width, height = (25.4 * float(inches) for inches in figure.get_size_inches())
    axes = figure.add_axes((0.0, MARGIN_MM / 2 / height, 1.0, room / height))
    axes.set(xlim=(0, width), ylim=(0, room))
    axes.axis("off")
    left = MARGIN_MM + LEFT_MM + NAME_MM
    for row, (name, score) in enumerate(bars):
        y = room - ROW_MM * (row + 0.5)
        axes.barh(y, BAR_MM, height=0.5 * ROW_MM, left=left, color=TRACK)
        axes.barh(y, BAR_MM * score, height=0.5 * ROW_MM, left=left, color=BAR)
        label = plain(name)
        shown = label if len(label) <= 40 else label[:39] + "…"
        axes.text(left - 2, y, shown, ha="right", va="center", fontsize=8, color=TEXT, parse_math=False)
        axes.text(left + BAR_MM + 2, y, f"{score:.2f}", ha="left", va="center", fontsize=8, color=TEXT)
    if more:
        words = f"and {more} more {'class' if more == 1 else 'classes'} with lower scores"
        axes.text(left, room - ROW_MM * (len(bars) + 0.5), words, ha="left", va="center", fontsize=7, color=TEXT)


def _page(shown: Shown, model: LoadedModel, header: ProbeHeader) -> str:
    """Return the page of all records; what comes from files and probes is escaped by the template."""
    pages = Environment(
        loader=FunctionLoader(lambda name: (resources.files("melp_bench.runs") / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["plain"] = plain
    quality = {name: header.validation_auroc.get(name) for name in header.classes}
    return pages.get_template(TEMPLATE).render(shown=shown, model=model, header=header, quality=quality)


def _table(shown: Shown) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("record", "class", "score", "reason"))
    for record in (one["record"] for one in shown):
        if record.scores is None:
            rows.writerow((csv_text(record.path), "", "", csv_text(record.reason)))
        for name, score in (record.scores or {}).items():
            rows.writerow((csv_text(record.path), csv_text(name), f"{score:.6f}", ""))
    return text.getvalue()


class FileNames:
    """Names for pictures, each given once, with nothing in them that leads elsewhere."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, path: Path) -> str:
        """Return a name for the picture of the record in `path`."""
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem or path.name).strip("_")[:80] or "record"
        name, number = f"{stem}.png", 2
        while name.lower() in self._given:
            name, number = f"{stem}-{number}.png", number + 1
        self._given.add(name.lower())
        return name


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
