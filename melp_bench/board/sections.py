"""What a board says, before anyone decides how it looks: sections, tables, columns, cells.

A section is one protocol hash and either real or generated records; rows of two sections never meet in a table.
A table is one task (all rows of an evaluation that reads pairs of tasks share one); a column is one measurement; a row is one
method. What a metric is called and which way is better stands in the rows, see `results.Outcome`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import ascii_lowercase

from melp_bench.board.escape import plain
from melp_bench.board.figures import metric_text
from melp_bench.board.leakage import corpora_of
from melp_bench.board.pretraining_seeds import SeedSpread, spread
from melp_bench.board.ranking import Standing
from melp_bench.board.reported import Reported
from melp_bench.canonical import digest
from melp_bench.results import MetricLabel, Outcome, ResultRecord, Score

GENERATED_NOTE = "synthetic: proves the pipeline, ranks nobody"
COLLAPSE_NOTE = "the pretraining shows signs of collapse: a model that may tell nothing apart"


@dataclass(frozen=True, eq=False)
class Method:
    """One model of a section; `anchor` is its place in the page."""

    anchor: str
    label: str
    records: tuple[ResultRecord, ...]

    @property
    def told_by(self) -> ResultRecord:
        """The row that tells what the model is: a scored one if there is one, as others may have been refused unmade."""
        return next((record for record in self.records if record.status == "scored"), self.records[0])

    @property
    def corpora(self) -> list[str]:
        """The names of its pretraining corpora."""
        return corpora_of(self.told_by)

    @property
    def collapse(self) -> str:
        """What its pretraining shows of a collapse, in words; empty where it shows none."""
        signs = self.told_by.facts.get("collapse")
        return plain("; ".join(str(sign) for sign in signs)) if isinstance(signs, list) else ""

    def fact(self, name: str) -> float | None:
        """Return a positive number among its facts, if it is there."""
        value = self.told_by.facts.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number and value > 0 and math.isfinite(value) else None  # type: ignore[arg-type,operator]


@dataclass(frozen=True)
class Cell:
    """One method under one measurement; where it was pretrained by several seeds, `record` is their mean, see `over_seeds`."""

    record: ResultRecord
    standings: Mapping[str, Standing]  # by metric; empty where nothing was scored
    leaks: tuple[str, ...]  # datasets of the task that the model has seen, as declared or as found
    overlap: str  # in words: were test records in the pretraining, and how is that known
    seeds: tuple[ResultRecord, ...]  # the row of every pretraining seed

    def score(self, metric: str | None) -> Score | None:
        """Return the score with its interval, or None where there is none."""
        outcome = scored_outcome(self.record)
        return outcome.scores.get(metric) if outcome is not None and metric is not None else None

    def spread(self, metric: str | None) -> SeedSpread | None:
        """Return how far the scores of several pretraining seeds lie apart; None for one seed."""
        return spread(self.seeds, metric) if metric is not None else None

    def missing(self, metric: str) -> str:
        """Return why the row has no score by `metric`."""
        outcome = scored_outcome(self.record)
        if outcome is None:
            return self.reason
        return plain(outcome.not_measured.get(metric, "")) or "not asked for"

    @property
    def tier(self) -> str:
        """How far it is to be trusted, see `ResultRecord.tier`: made here only if every row of it was."""
        return "re-run" if all(record.tier == "re-run" for record in self.seeds) else "verified"

    @property
    def reason(self) -> str:
        """Why nothing was scored."""
        return plain(self.record.reason) or "no reason given"


@dataclass(frozen=True, eq=False)
class Column:
    """One measurement of one task; cells by method anchor."""

    label: str
    measurement: str  # the label without the metric that ranks, which the label names where columns of a table differ in it
    evaluation: str  # as a reader says it
    setting: str
    task: str
    metrics: Mapping[str, MetricLabel]  # that a row has, or was asked for, in the rows' order
    primary: str | None  # the metric that ranks; None where nothing was scored
    cells: Mapping[str, Cell]
    reported: tuple[Reported, ...]

    @property
    def metric(self) -> MetricLabel | None:
        """The label of the metric that ranks."""
        return self.metrics[self.primary] if self.primary is not None else None

    @property
    def best(self) -> list[str]:
        """The anchors of the scored methods, the best first."""
        sign = -1.0 if self.metric is not None and self.metric.higher_is_better else 1.0
        scores = {anchor: score.value for anchor, cell in self.cells.items() if (score := cell.score(self.primary))}
        return sorted(scores, key=lambda anchor: (sign * scores[anchor], anchor))

    @property
    def excluded(self) -> list[str]:
        """Classes that some row leaves out of its macro mean."""
        return sorted({plain(name) for outcome in self._outcomes for name in outcome.excluded})

    @property
    def uneven(self) -> bool:
        """Whether two rows average over different classes."""
        return len({frozenset(outcome.excluded) for outcome in self._outcomes}) > 1

    def without(self, metric: str) -> list[str]:
        """Return classes that some row leaves out of its mean of `metric` alone, for want of something in validation."""
        found: set[str] = set()
        for outcome in self._outcomes:
            scored = {entry.name for entry in outcome.classes if metric in entry.scores}
            if scored:  # else it is one number over all classes, or not measured
                found |= {plain(entry.name) for entry in outcome.classes} - {plain(n) for n in (*scored, *outcome.excluded)}
        return sorted(found)

    @property
    def _outcomes(self) -> list[Outcome]:
        return [outcome for cell in self.cells.values() if (outcome := scored_outcome(cell.record)) is not None]


@dataclass(frozen=True)
class Table:
    """One task: methods down, measurements across."""

    title: str
    columns: tuple[Column, ...]
    methods: tuple[Method, ...]

    @property
    def metrics(self) -> dict[str, MetricLabel]:
        """Every metric of its rows."""
        return merged(column.metrics for column in self.columns)

    @property
    def ranked_by(self) -> str:
        """The metric that ranks, in words."""
        texts = dict.fromkeys(metric_text(column.metric) for column in self.columns if column.metric is not None)
        return next(iter(texts), "nothing scored") if len(texts) < 2 else "the metric that each column names"

    @property
    def collapses(self) -> dict[str, str]:
        """What the pretraining of its methods shows of a collapse, by the method's name."""
        return {method.label: method.collapse for method in self.methods if method.collapse}

    @property
    def reported(self) -> list[tuple[str, str]]:
        """Methods of which papers report a cell of this table, each with its source: papers differ on one method."""
        return list(dict.fromkeys((cell.method, cell.source) for column in self.columns for cell in column.reported))

    @property
    def suspected(self) -> list[str]:
        """A sentence per reported cell that looks like an error of copying."""
        cells = ((column, cell) for column in self.columns for cell in column.reported if cell.suspected)
        return [f"{cell.method}, {column.measurement}: {cell.suspected}" for column, cell in cells]

    @property
    def sources(self) -> dict[str, str]:
        """The mark of each source of reported numbers: a, b, c ..."""
        found = dict.fromkeys(cell.source for column in self.columns for cell in column.reported)
        return dict(zip(found, ascii_lowercase, strict=False))

    @property
    def overlaps(self) -> dict[str, list[str]]:
        """What is known of test records in pretraining, with the methods it is known of, and the columns where those differ."""
        said: dict[str, dict[str, list[str]]] = {}
        for method in self.methods:
            for column in self.columns:
                if (cell := column.cells.get(method.anchor)) and cell.record.status == "scored":
                    said.setdefault(method.label, {}).setdefault(cell.overlap, []).append(column.measurement)
        found: dict[str, list[str]] = {}
        for label, texts in said.items():
            for text, columns in texts.items():
                found.setdefault(text, []).append(label if len(texts) == 1 else f"{label} ({', '.join(columns)})")
        return found

    @property
    def exclusions(self) -> list[str]:
        """A sentence per set of classes left out of macro means, naming the measurements it holds for."""
        same: dict[tuple[str, bool], list[str]] = {}
        fewer: dict[tuple[str, str], list[str]] = {}
        for column in self.columns:
            if column.excluded:
                same.setdefault((", ".join(column.excluded), column.uneven), []).append(column.measurement)
            for name, label in column.metrics.items():
                if names := column.without(name):
                    fewer.setdefault((plain(label.label), ", ".join(names)), []).append(column.measurement)
        return [
            f"{', '.join(labels)}: not in the macro mean for want of a positive or a negative: {names}"
            + ("; rows differ in this, so their means are over different classes" if uneven else "")
            for (names, uneven), labels in same.items()
        ] + [
            f"{', '.join(labels)}: not in the mean of {metric}, which is not defined of them here: {names}"
            for (metric, names), labels in fewer.items()
        ]

    @property
    def unmeasured(self) -> list[str]:
        """A sentence per metric and reason why rows have no score by it, naming the measurements it holds for."""
        found: dict[tuple[str, str], dict[str, None]] = {}
        for column in self.columns:
            for name, label in column.metrics.items():
                for cell in column.cells.values():
                    outcome = scored_outcome(cell.record)
                    if outcome is not None and name in outcome.not_measured:
                        found.setdefault((plain(label.label), cell.missing(name)), {})[column.measurement] = None
        return [f"{', '.join(labels)}: no {metric}: it {reason}" for (metric, reason), labels in found.items()]


@dataclass(frozen=True, eq=False)
class Section:
    """All rows of one protocol hash that were measured on real, or on generated, records."""

    anchor: str
    protocol: str
    revision: int
    hash: str
    generated: bool
    tables: tuple[Table, ...]
    methods: tuple[Method, ...]
    records: tuple[ResultRecord, ...]
    superseded: int = 0  # rows of older code, which are in no table

    @property
    def cite_key(self) -> str:
        """The digest of the keys of all rows: names exactly this section."""
        return digest([record.key for record in self.records])

    @property
    def tiers(self) -> str:
        """A sentence that names the methods with rows that were sent and verified; empty if all were made here."""
        sent = [method.label for method in self.methods if any(record.tier == "verified" for record in method.records)]
        return f"Sent, and verified by recomputing every score from the predictions: {', '.join(sent)}" if sent else ""

    @property
    def left_out(self) -> str:
        """A sentence that counts superseded rows; empty without any."""
        if not self.superseded:
            return ""
        rows = "1 row of older code is" if self.superseded == 1 else f"{self.superseded:,} rows of older code are"
        return f"{rows} kept, and left out"


def scored_outcome(record: ResultRecord) -> Outcome | None:
    """Return the row's outcome; None where it was not scored."""
    return record.outcome if record.status == "scored" else None


def merged(many: Iterable[Mapping[str, MetricLabel]]) -> dict[str, MetricLabel]:
    """Return all metrics by name; where two rows label one name differently, the first is kept."""
    found: dict[str, MetricLabel] = {}
    for metrics in many:
        for name, label in metrics.items():
            found.setdefault(name, label)
    return found


def fraction_of(setting: str) -> float | None:
    """Return the share of labels that a setting such as "1 %" names, in (0, 1], or None."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", setting)
    return float(match[1]) / 100 if match and float(match[1]) > 0 else None
