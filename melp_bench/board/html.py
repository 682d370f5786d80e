"""The board as one HTML file that opens from disk and loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from melp_bench.board.card import cards, class_rows, environment
from melp_bench.board.escape import plain
from melp_bench.board.paired_differences import LEVEL, staircases
from melp_bench.board.plots import efficiency, pareto, span
from melp_bench.board.sections import GENERATED_NOTE, METRICS, Section, Table, evaluation_label
from melp_bench.board.speed import HOW, SpeedTable, speeds_beside
from melp_bench.results import Score


def render_html(sections: Sequence[Section], speeds: Sequence[SpeedTable] = ()) -> str:
    """Return the whole board; everything that comes from data is escaped by the template."""
    script = _file("board.js")
    page = Environment(
        loader=FunctionLoader(_file), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.globals.update(
        cards=cards,
        class_rows=class_rows,
        domain=domain,
        dates=dates,
        efficiency=efficiency,
        environment=environment,
        evaluations=evaluations,
        level=LEVEL,
        pareto=pareto,
        place=place,
        speeds_beside=speeds_beside,
        staircases=staircases,
    )
    page.filters.update(compact=compact, plain=plain)
    return page.get_template("board.html.j2").render(
        sections=sections,
        speeds=speeds,
        speed_how=HOW,
        metrics=METRICS,
        generated_note=GENERATED_NOTE,
        # ours, not data: inlined as they are, and the page's policy admits this script alone
        css=Markup(_file("board.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _file(name: str) -> str:
    return (resources.files("melp_bench.board") / name).read_text(encoding="utf-8")


def domain(table: Table, metric: str) -> tuple[float, float]:
    """Return the scale of a table's interval bars, one for all its columns."""
    cells = [cell for column in table.columns for cell in column.cells.values()]
    scores = [score for cell in cells if (score := cell.score(metric)) is not None]
    return span(scores) if scores else (0.0, 1.0)


def place(score: Score, scale: tuple[float, float]) -> tuple[str, str, str]:
    """Return where low, value and high lie on the scale, in percent of its length."""
    low, value, high = (f"{100 * (v - scale[0]) / (scale[1] - scale[0]):.1f}" for v in (score.low, score.value, score.high))
    return low, value, high


def dates(section: Section) -> str:
    """Return the day, or the first and last day, on which the rows were measured."""
    days = sorted({record.created[:10] for record in section.records if record.created})
    if not days:
        return "not dated"
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def evaluations(section: Section) -> str:
    """Return what was measured, with the version of each measuring rule."""
    names = dict.fromkeys(f"{evaluation_label(r.evaluation)} v{r.evaluation_version}" for r in section.records)
    return ", ".join(sorted(names))


def compact(count: float) -> str:
    """Return a count as 8.73 M, 1.2 k or 940."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"
