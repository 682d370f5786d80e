"""The board as one HTML file that opens from disk and loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from melp_bench.board.arrangement import evaluation_label
from melp_bench.board.card import cards, class_rows, environment
from melp_bench.board.escape import plain
from melp_bench.board.figures import metric_text, triple
from melp_bench.board.level_curves import level_curves
from melp_bench.board.overview import overview
from melp_bench.board.pages import INDEX, LARGEST, MANY_ROWS, PAGES, Page, links_from, one_page, several_pages
from melp_bench.board.paired_differences import LEVEL, staircases
from melp_bench.board.plots import pareto, span
from melp_bench.board.reliability import reliabilities
from melp_bench.board.sections import COLLAPSE_NOTE, GENERATED_NOTE, Column, Section, Table, merged
from melp_bench.board.speed import HOW, SpeedTable, speeds_beside
from melp_bench.board.statistics import RANK_NOTE, mean_rank
from melp_bench.results import Score

AS_RANKED = ""  # chosen where every column shows the metric that ranks it


def render_pages(
    sections: Sequence[Section],
    speeds: Sequence[SpeedTable] = (),
    results: Path | None = None,
    beside: Sequence[str] = (),
) -> dict[str, str]:
    """Return the pages of the board by name, one unless it would be larger than `LARGEST`.

    Everything that comes from data is escaped by the template. `results` is the folder of the rows, in which predictions may
    be kept; `beside` are paths of other pages that the first leads to.
    """
    render = _renderer(sections, speeds, results, beside)
    if sum(len(section.records) for section in sections) <= MANY_ROWS:
        pages = one_page(sections)
        found = {page.name: render(page, pages) for page in pages}
        if len(found[INDEX].encode()) <= LARGEST:
            return found
    pages = several_pages(sections)
    return {page.name: render(page, pages) for page in pages}


def _renderer(
    sections: Sequence[Section], speeds: Sequence[SpeedTable], results: Path | None, beside: Sequence[str]
) -> Callable[[Page, Sequence[Page]], str]:
    """Return what renders one of some pages."""
    script = _file("board.js")
    templates = Environment(
        loader=FunctionLoader(_file), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.globals.update(
        cards=cards,
        class_rows=class_rows,
        collapse_note=COLLAPSE_NOTE,
        counted=counted,
        dates=dates,
        environment=environment,
        evaluations=evaluations,
        lacks_a_choice=partial(lacks_a_choice, choices(sections)),
        level=LEVEL,
        level_curves=level_curves,
        pareto=pareto,
        mean_rank=mean_rank,
        metric_text=metric_text,
        overview=overview,
        place=place,
        rank_note=RANK_NOTE,
        reliabilities=partial(reliabilities, results=results),
        scales=scales,
        speeds_beside=speeds_beside,
        staircases=staircases,
        triple=triple,
    )
    templates.filters.update(compact=compact, plain=plain)
    template = templates.get_template("board.html.j2")
    everywhere = {
        "sections": sections,
        "speeds": speeds,
        "beside": {
            what: links for folder, what in PAGES.items() if (links := [_page_link(p) for p in beside if p.startswith(folder)])
        },
        "speed_how": HOW,
        "choices": choices(sections),
        "generated_note": GENERATED_NOTE,
        # ours, not data: inlined as they are, and the page's policy admits this script alone
        "css": Markup(_file("board.css")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return lambda page, pages: template.render(everywhere, page=page, link=links_from(page, pages))


def _page_link(path: str) -> tuple[str, str]:
    """Return the address and the name of a page beside the board."""
    return quote(path), plain(path.rpartition("/")[2].removesuffix(".html"))


def _file(name: str) -> str:
    return (resources.files("melp_bench.board") / name).read_text(encoding="utf-8")


def choices(sections: Sequence[Section]) -> dict[str, str]:
    """Return the metrics that a reader can choose among, by name, in words; first what is shown at first."""
    columns = [column for section in sections for table in section.tables for column in table.columns]
    primaries = dict.fromkeys(column.primary for column in columns if column.primary is not None)
    metrics = {name: metric_text(label) for name, label in merged(column.metrics for column in columns).items()}
    if len(primaries) != 1:
        return {AS_RANKED: "as ranked", **{plain(name): text for name, text in metrics.items()}} if metrics else {}
    (first,) = primaries
    return {plain(name): metrics[name] for name in (first, *metrics)}


def counted(number: int, noun: str) -> str:
    """Return "1 method", or "2 methods"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def lacks_a_choice(chosen: Mapping[str, str], column: Column) -> bool:
    """Return whether a reader can choose a metric that the rows of a column do not have."""
    return not chosen.keys() <= {AS_RANKED, *map(plain, column.metrics)}


def scales(table: Table) -> dict[str, tuple[tuple[float, float], tuple[str, str]]]:
    """Return the scale of a table's interval bars by metric, one for all its columns, and its ends as text."""
    found = {}
    for name, label in table.metrics.items():
        cells = [cell for column in table.columns for cell in column.cells.values()]
        scores = [score for cell in cells if (score := cell.score(name)) is not None]
        if scores:
            low, high = scale = span(scores, label)
            found[name] = (scale, (f"{low:.4g}", f"{high:.4g}"))
    return found


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
    rows = sorted(section.records, key=lambda r: (r.order, r.key))
    return ", ".join(dict.fromkeys(f"{evaluation_label(r)} v{r.evaluation_version}" for r in rows))


def compact(count: float) -> str:
    """Return a count as 8.73 M, 1.2 k or 940."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"
