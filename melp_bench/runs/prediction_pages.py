"""Scored records to look at: each on ECG paper with its classes' scores as a PNG, all on one HTML page, and a CSV.

Units: a figure's lengths are millimetres of paper.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

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
BAR, TRACK = "#12467f", "#e4ebf2"


def write_predictions(
    records: Sequence[Scored], model: LoadedModel, header: ProbeHeader, out: Path, *, page: bool = True
) -> list[Path]:
    """Write a PNG of every scored record, the page of all, and the table of all scores; return the files.

    Raises:
        UserError: they cannot be written.
    """
    make_folder(out)
    names, pictures, shown = _file_names(records), list[Path](), list[dict[str, object]]()
    for record, name in zip(records, names, strict=True):
        content = b""
        if record.scores is not None:
            content = _png(scored_figure(record, title=f"{record.path.name} · {model.name} · {header.task}"))
            pictures.append(out / name)
            atomic_write(pictures[-1], content)
        shown.append({"record": record, "file": name, "image": base64.b64encode(content).decode()})
    atomic_write(out / TABLE, _table(records))
    if page:
        atomic_write(out / PAGE, _page(shown, model, header))
    return [*pictures, out / TABLE, *([out / PAGE] if page else [])]


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


def _page(shown: Sequence[dict[str, object]], model: LoadedModel, header: ProbeHeader) -> str:
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


def _table(records: Sequence[Scored]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("record", "class", "score", "reason"))
    for record in records:
        if record.scores is None:
            rows.writerow((csv_text(record.path), "", "", csv_text(record.reason)))
        for name, score in (record.scores or {}).items():
            rows.writerow((csv_text(record.path), csv_text(name), f"{score:.6f}", ""))
    return text.getvalue()


def _file_names(records: Sequence[Scored]) -> list[str]:
    """Return a name for the picture of each record, each once, with nothing in it that leads elsewhere."""
    names: list[str] = []
    for record in records:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", record.path.stem or record.path.name).strip("_")[:80] or "record"
        name, number = f"{stem}.png", 2
        while name.lower() in (other.lower() for other in names):
            name, number = f"{stem}-{number}.png", number + 1
        names.append(name)
    return names


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
