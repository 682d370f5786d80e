"""How scores move from one way of measuring to another, in groups: a page with plots, Markdown and CSV.

A group is a published defect, without and with which one model is measured, or a model that is measured by two protocols.

A difference is in points: hundredths of a metric that lies between 0 and 1, with its interval under resampling of the patients.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from melp_bench.board.escape import csv_text, markdown, plain
from melp_bench.board.figures import metric_text, signed, spoken, width_of
from melp_bench.board.plots import Tick, round_step
from melp_bench.board.sections import GENERATED_NOTE
from melp_bench.home import atomic_write, make_folder
from melp_bench.metrics.paired import Difference
from melp_bench.results import MetricLabel, Score

WIDTH, ROW, EDGE = 420.0, 22.0, 10.0  # of the plot, in SVG units


@dataclass(frozen=True)
class Move:
    """One score measured in two ways.

    Attributes:
        group: the defect that is off and on, or the model that two protocols measure.
        evaluation, task, setting: of the row before.
        metric: how the metric is read.
        before, after: the scores; None where there is none.
        difference: after minus before, with its paired interval; None where there are not both scores.
        classes: how many classes are in either macro mean.
        generated: True of made records.
        note: why there is no difference, or no interval.
    """

    group: str
    evaluation: str
    task: str
    setting: str
    metric: MetricLabel | None = None
    before: Score | None = None
    after: Score | None = None
    difference: Difference | None = None
    classes: tuple[int, int] = (0, 0)
    generated: bool = False
    note: str = ""

    @property
    def points(self) -> tuple[float, float, float] | None:
        """The difference with the ends of its interval, in points; None where there is none."""
        if self.difference is None:
            return None
        small = self.metric is None or width_of(self.metric) == 1.0
        value, low, high = (x * (100.0 if small else 1.0) for x in _ends(self.difference))
        return value, low, high

    @property
    def told(self) -> str:
        """The difference as a reader sees it: "−3.1 [−4.0, −2.2]"."""
        if self.points is None:
            return "-"
        value, low, high = self.points
        ends = f" [{signed(low, 1)}, {signed(high, 1)}]" if math.isfinite(low) and math.isfinite(high) else ""
        return signed(value, 1) + ends

    @property
    def where(self) -> str:
        """The row in words."""
        return " ".join(plain(part) for part in (self.evaluation, self.setting) if part)

    @property
    def remarks(self) -> str:
        """What a reader should know of the difference."""
        more = [f"mean over {self.classes[1]} classes, not {self.classes[0]}"] if len(set(self.classes)) > 1 else []
        return "; ".join(([plain(self.note)] if self.note else []) + more)


@dataclass(frozen=True)
class MovesWords:
    """What a page is about, in words that are ours.

    Attributes:
        heading: of the whole page.
        lede: what is subtracted from what, in a sentence or two, with places for {subject} and {protocol}.
        subject: what the subject is, as the head of a column.
        group: what a group is, as the head of a column.
        sides: what the scores before and after are, as heads of columns.
        idle: the heading of what did not move.
    """

    heading: str
    lede: str
    subject: str
    group: str
    sides: tuple[str, str]
    idle: str


OF_DEFECTS = MovesWords(
    heading="What published defects move",
    lede="{subject} under protocol {protocol}, measured without and with each defect of published benchmarks, one at a time. "
    "Points are hundredths of the metric, with the defect minus without it; the interval is that of the difference, both "
    "resampled by the same patients.",
    subject="model",
    group="defect",
    sides=("without", "with"),
    idle="Where a defect changes nothing",
)


@dataclass(frozen=True)
class MovesPage:
    """Rows in groups.

    Attributes:
        subject: what is measured: a model, or two protocols.
        protocol: by which, with revision and hash.
        summaries: a sentence for each group, by name, in the order of the page.
        idle: group, task, and why nothing moved there.
    """

    subject: str
    protocol: str
    rows: tuple[Move, ...]
    idle: tuple[tuple[str, str, str], ...]
    summaries: Mapping[str, str]
    words: MovesWords = OF_DEFECTS

    @property
    def groups(self) -> dict[str, list[Move]]:
        """The rows of each group that has any, in the order of the summaries."""
        found: dict[str, list[Move]] = {name: [] for name in self.summaries}
        for row in self.rows:
            found[row.group].append(row)
        return {name: rows for name, rows in found.items() if rows}


@dataclass(frozen=True)
class MoveBar:
    """A row of the plot: where its value and interval lie, in SVG units."""

    y: float
    x: float
    low: float
    high: float
    separable: bool
    text: str


@dataclass(frozen=True)
class MovePlot:
    """The rows of one group on the scale that all groups share."""

    bars: tuple[MoveBar, ...]
    zero: float
    ticks: tuple[Tick, ...]
    height: float
    width: float = WIDTH


def plot(rows: Sequence[Move], everything: Sequence[Move]) -> MovePlot:
    """Return the plot of `rows` on the scale of `everything`; rows without a difference have an empty place."""
    ends = [end for row in everything if row.points for end in row.points if math.isfinite(end)]
    reach = max([abs(end) for end in ends], default=0.0) or 1.0
    step = round_step(reach / 3)
    reach = step * math.ceil(reach / step - 1e-9)

    def x(points: float) -> float:
        return round(EDGE + (min(max(points, -reach), reach) + reach) / (2 * reach) * (WIDTH - 2 * EDGE), 1)

    bars = tuple(
        MoveBar(
            y=round((i + 0.5) * ROW, 1),
            x=x(row.points[0]),
            low=x(row.points[1]),
            high=x(row.points[2]),
            separable=_differs(row),
            text=f"{row.where} {row.task}: {row.told}",
        )
        for i, row in enumerate(rows)
        if row.points is not None
    )
    count = round(reach / step)
    ticks = tuple(Tick(x(i * step), signed(i * step, 0 if step >= 1 else 1)) for i in range(-count, count + 1))
    return MovePlot(bars, x(0.0), ticks, len(rows) * ROW)


def _ends(given: Score | Difference) -> tuple[float, float, float]:
    return given.value, given.low, given.high


def _differs(row: Move) -> bool:
    return row.difference is not None and row.difference.separable


def moves_files(page: MovesPage) -> dict[str, bytes]:
    """Return the files of a page by their endings."""
    return {"md": render_markdown_page(page).encode(), "csv": render_rows(page).encode(), "html": render_page(page).encode()}


def write_moves(page: MovesPage, out: Path, name: str) -> list[Path]:
    """Write the page to `out`/NAME.md, .csv and .html, each whole or not at all, and return the paths."""
    folder = make_folder(out)
    paths = []
    for ending, content in moves_files(page).items():
        paths.append(folder / f"{name}.{ending}")
        atomic_write(paths[-1], content)
    return paths


def render_markdown_page(page: MovesPage) -> str:
    """Return the page as Markdown."""
    lines = [f"# {page.words.heading}: {markdown(page.subject)}", "", _opening(page, markdown), ""]
    lines += ["A difference whose interval leaves out zero is **bold**.", ""]
    if any(row.generated for row in page.rows):
        lines += [markdown(GENERATED_NOTE), ""]
    for name, rows in page.groups.items():
        lines += [f"## {markdown(name)}", "", markdown(page.summaries[name]) + ".", ""]
        lines += [
            f"| evaluation | task | metric | {' | '.join(page.words.sides)} | points | |",
            "|---|---|---|---:|---:|---:|---|",
        ]
        for row in rows:
            scores = [_score(row, row.before), _score(row, row.after)]
            told = f"**{row.told}**" if _differs(row) else row.told
            metric = metric_text(row.metric) if row.metric else ""
            cells = [markdown(row.where), markdown(row.task), markdown(metric), *scores, told, markdown(row.remarks)]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    if page.idle:
        lines += [f"## {page.words.idle}", ""]
        lines += [f"- {markdown(name)} in {markdown(task)}: {markdown(reason)}" for name, task, reason in page.idle]
    return "\n".join(lines).rstrip() + "\n"


def render_rows(page: MovesPage) -> str:
    """Return the rows as CSV, numbers as they are."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = [*_subjects(page), page.words.group, "evaluation", "task", "setting", "metric", "generated"]
    spread = [f"{what}{end}" for what in (*page.words.sides, "difference") for end in ("", "_low", "_high")]
    writer.writerow([*head, *spread, *(f"classes_{side}" for side in page.words.sides), "note"])
    for row in page.rows:
        texts = [*_subjects(page).values(), row.group, row.evaluation, row.task, row.setting]
        texts.append(row.metric.label if row.metric else "")
        numbers = [
            value if math.isfinite(value) else ""
            for triple in (row.before, row.after, row.difference)
            for value in (_ends(triple) if triple is not None else (math.nan,) * 3)
        ]
        writer.writerow([*map(csv_text, texts), row.generated, *numbers, *row.classes, csv_text(row.remarks)])
    return file.getvalue()


def render_page(page: MovesPage) -> str:
    """Return the page as one HTML file that loads nothing; everything that comes from data is escaped by the template."""
    environment = Environment(
        loader=FunctionLoader(_file), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(plot=plot, score=_score, metric_text=metric_text, differs=_differs, opening=_opening)
    environment.filters.update(plain=plain)
    css = Markup(_file("board.css"))  # ours, not data
    template = environment.get_template("score_moves.html.j2")
    return template.render(page=page, css=css, row_height=ROW, generated_note=GENERATED_NOTE)


def _subjects(page: MovesPage) -> dict[str, str]:
    """Return the columns that are the same in every line."""
    return {page.words.subject: page.subject, "protocol": page.protocol}


def _opening(page: MovesPage, text: Callable[[str], str] = plain) -> str:
    """Return what the page is about, in a few sentences."""
    return page.words.lede.format(subject=text(page.subject), protocol=text(page.protocol))


def _file(name: str) -> str:
    return (resources.files("melp_bench.board") / name).read_text(encoding="utf-8")


def _score(row: Move, score: Score | None) -> str:
    return "-" if score is None or row.metric is None else spoken(score, row.metric)
