"""What each published defect moves, as a page with a plot, as Markdown and as CSV.

A difference is in points: hundredths of a metric that lies between 0 and 1, with its interval under resampling of the patients.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
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
    """What one defect moves in one score of a model.

    Attributes:
        defect: its name.
        evaluation, task, setting: of the row without it.
        metric: how the metric is read.
        before, after: the scores without and with it; None where there is none.
        difference: after minus before, with its paired interval; None where there are not both scores.
        classes: how many classes are in either macro mean.
        generated: True of made records.
        note: why there is no difference, or no interval.
    """

    defect: str
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
class SensitivityPage:
    """All rows of one model under one protocol.

    Attributes:
        summaries: of each defect that was toggled, by name.
        idle: defect, task, and why it changes nothing there.
    """

    model: str
    protocol: str  # name, revision and hash
    rows: tuple[Move, ...]
    idle: tuple[tuple[str, str, str], ...]
    summaries: Mapping[str, str]

    @property
    def by_defect(self) -> dict[str, list[Move]]:
        """The rows of each defect, in the order in which defects were toggled."""
        found: dict[str, list[Move]] = {name: [] for name in self.summaries}
        for row in self.rows:
            found[row.defect].append(row)
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
    """The rows of one defect on the scale that all defects share."""

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


def sensitivity_files(page: SensitivityPage) -> dict[str, bytes]:
    """Return the files of a page by their endings."""
    return {"md": render_markdown_page(page).encode(), "csv": render_rows(page).encode(), "html": render_page(page).encode()}


def write_sensitivity(page: SensitivityPage, out: Path, name: str) -> list[Path]:
    """Write the page to `out`/NAME.md, .csv and .html, each whole or not at all, and return the paths."""
    folder = make_folder(out)
    paths = []
    for ending, content in sensitivity_files(page).items():
        paths.append(folder / f"{name}.{ending}")
        atomic_write(paths[-1], content)
    return paths


def render_markdown_page(page: SensitivityPage) -> str:
    """Return the page as Markdown."""
    lines = [f"# What published defects move: {markdown(page.model)}", ""]
    lines += [
        f"Protocol {markdown(page.protocol)}. Points are hundredths of the metric, with the defect minus without it, with the"
    ]
    lines += ["interval under resampling of the patients; a difference whose interval leaves out zero is **bold**.", ""]
    if any(row.generated for row in page.rows):
        lines += [markdown(GENERATED_NOTE), ""]
    for name, rows in page.by_defect.items():
        lines += [f"## {markdown(name)}", "", markdown(page.summaries[name]) + ".", ""]
        lines += ["| evaluation | task | metric | without | with | points | |", "|---|---|---|---:|---:|---:|---|"]
        for row in rows:
            scores = [_score(row, row.before), _score(row, row.after)]
            told = f"**{row.told}**" if _differs(row) else row.told
            metric = metric_text(row.metric) if row.metric else ""
            cells = [markdown(row.where), markdown(row.task), markdown(metric), *scores, told, markdown(row.remarks)]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    if page.idle:
        lines += ["## Where a defect changes nothing", ""]
        lines += [f"- {markdown(name)} in {markdown(task)}: {markdown(reason)}" for name, task, reason in page.idle]
    return "\n".join(lines).rstrip() + "\n"


def render_rows(page: SensitivityPage) -> str:
    """Return the rows as CSV, numbers as they are."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ["model", "protocol", "defect", "evaluation", "task", "setting", "metric", "generated"]
    spread = [f"{what}{end}" for what in ("without", "with", "difference") for end in ("", "_low", "_high")]
    writer.writerow([*head, *spread, "classes_without", "classes_with", "note"])
    for row in page.rows:
        texts = [page.model, page.protocol, row.defect, row.evaluation, row.task, row.setting]
        texts.append(row.metric.label if row.metric else "")
        numbers = [
            value if math.isfinite(value) else ""
            for triple in (row.before, row.after, row.difference)
            for value in (_ends(triple) if triple is not None else (math.nan,) * 3)
        ]
        writer.writerow([*map(csv_text, texts), row.generated, *numbers, *row.classes, csv_text(row.remarks)])
    return file.getvalue()


def render_page(page: SensitivityPage) -> str:
    """Return the page as one HTML file that loads nothing; everything that comes from data is escaped by the template."""
    environment = Environment(
        loader=FunctionLoader(_file), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(plot=plot, score=_score, metric_text=metric_text, differs=_differs)
    environment.filters.update(plain=plain)
    css = Markup(_file("board.css"))  # ours, not data
    template = environment.get_template("sensitivity.html.j2")
    return template.render(page=page, css=css, row_height=ROW, generated_note=GENERATED_NOTE)


def _file(name: str) -> str:
    return (resources.files("melp_bench.board") / name).read_text(encoding="utf-8")


def _score(row: Move, score: Score | None) -> str:
    return "-" if score is None or row.metric is None else spoken(score, row.metric)
