"""The board as a table of methods and tasks: a row per method of a section, a column per measurement, each with its interval.

`board.csv` has a line per score, which programs read; this is what people paste into a paper's appendix or a spreadsheet.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from melp_bench.board.aggregate_ranks import aggregate_ranks
from melp_bench.board.escape import csv_text
from melp_bench.board.figures import metric_text, width_of
from melp_bench.board.sections import Cell, Column, Method, Section

FILE = "methods-by-tasks.csv"
HEAD = ("protocol", "protocol_hash", "generated", "model", "mean_rank", "parameters")


def render_methods_by_tasks(sections: Sequence[Section]) -> str:
    """Return the table; columns of different sections that are called the same are one, and cells without a score are empty."""
    columns = list(dict.fromkeys(name for section in sections for name, _ in _columns(section)))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*HEAD, *(csv_text(f"{name}{end}") for name in columns for end in ("", " low", " high"))])
    for section in sections:
        named = dict(_columns(section))
        for method, mean_rank in _methods(section):
            cells = [triple for name in columns for triple in _triple(named.get(name), method)]
            writer.writerow([*_told(section, method, mean_rank), *cells])
    return file.getvalue()


def _columns(section: Section) -> Iterator[tuple[str, Column]]:
    """Yield what each measurement is called, with the metric that ranks it, and its column."""
    for table in section.tables:
        for column in table.columns:
            if column.metric is not None:
                yield f"{table.title} {column.measurement} {metric_text(column.metric)}", column


def _methods(section: Section) -> list[tuple[Method, float | None]]:
    """Return the methods with their mean ranks over all measurements, the best first, those without a rank last."""
    found = aggregate_ranks(section)
    ranks = {one.anchor: one.mean_rank for one in found[0].methods} if found else {}
    methods = [(method, ranks.get(method.anchor)) for method in section.methods]
    return sorted(methods, key=lambda one: (one[1] is None, one[1] or 0.0, one[0].label))


def _told(section: Section, method: Method, mean_rank: float | None) -> list[str]:
    parameters = method.fact("parameters")
    return [
        csv_text(section.protocol),
        csv_text(section.hash),
        str(section.generated).lower(),
        csv_text(method.label),
        "" if mean_rank is None else f"{mean_rank:.4f}",
        "" if parameters is None else f"{parameters:.0f}",
    ]


def _triple(column: Column | None, method: Method) -> list[str]:
    """Return score, low and high: six decimals of what lies within one unit, else eight digits."""
    cell: Cell | None = column.cells.get(method.anchor) if column is not None else None
    score = cell.score(column.primary) if cell is not None and column is not None else None
    if score is None or column is None or column.metric is None:
        return ["", "", ""]
    width = width_of(column.metric)
    form = ".6f" if width is not None and width <= 2 else ".8g"
    return [f"{value:{form}}" for value in (score.value, score.low, score.high)]
