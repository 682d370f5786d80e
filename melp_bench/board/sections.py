"""What a board says, before anyone decides how it looks: sections, tables, columns, cells.

A section is one protocol hash and either real or generated records; rows of two sections never meet in a table.
A table is one task (all transfers share one); a column is one measurement; a row is one method.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import ascii_lowercase

from melp_bench.board.escape import plain
from melp_bench.board.leakage import corpora_of, datasets_of, leaks, overlap_text
from melp_bench.board.ranking import Standing, standings
from melp_bench.board.reported import Reported, reported_for
from melp_bench.canonical import digest
from melp_bench.results import Outcome, ResultRecord, Score

METRICS = {"auroc": "macro AUROC", "auprc": "macro AUPRC"}
GENERATED_NOTE = "synthetic: proves the pipeline, ranks nobody"
_ORDER = ("zero_shot", "linear_probe", "fine_tune", "transfer")
_LABELS = {"zero_shot": "zero-shot", "fine_tune": "fine-tuning"}


@dataclass(frozen=True, eq=False)
class Method:
    """One model of a section; `anchor` is its place in the page."""

    anchor: str
    label: str
    records: tuple[ResultRecord, ...]

    @property
    def corpora(self) -> list[str]:
        """The names of its pretraining corpora."""
        return corpora_of(self.records[0])

    def fact(self, name: str) -> float | None:
        """Return a positive number among its facts, if it is there."""
        value = self.records[0].facts.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number and value > 0 and math.isfinite(value) else None  # type: ignore[arg-type,operator]


@dataclass(frozen=True)
class Cell:
    """One method under one measurement."""

    record: ResultRecord
    standings: Mapping[str, Standing]  # by metric; empty where nothing was scored
    leaks: tuple[str, ...]  # datasets of the task that the model has seen, as declared or as found
    overlap: str  # in words: were test records in the pretraining, and how is that known

    def score(self, metric: str) -> Score | None:
        """Return the score with its interval, or None where there is none."""
        return scores_of(self.record).get(metric)

    @property
    def reason(self) -> str:
        """Why there is no score."""
        return plain(self.record.reason) or "no reason given"


@dataclass(frozen=True)
class Column:
    """One measurement of one task; cells by method anchor."""

    label: str
    evaluation: str
    setting: str
    task: str
    cells: Mapping[str, Cell]
    reported: tuple[Reported, ...]

    @property
    def excluded(self) -> list[str]:
        """Classes that some row leaves out of its macro mean."""
        return sorted({plain(name) for outcome in self._outcomes for name in outcome.excluded})

    @property
    def uneven(self) -> bool:
        """Whether two rows average over different classes."""
        return len({frozenset(outcome.excluded) for outcome in self._outcomes}) > 1

    @property
    def _outcomes(self) -> list[Outcome]:
        return [cell.record.outcome for cell in self.cells.values() if cell.record.outcome is not None]


@dataclass(frozen=True)
class Table:
    """One task: methods down, measurements across."""

    title: str
    columns: tuple[Column, ...]
    methods: tuple[Method, ...]

    @property
    def reported(self) -> list[str]:
        """Methods of which papers report a cell of this table."""
        return list(dict.fromkeys(cell.method for column in self.columns for cell in column.reported))

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
                    said.setdefault(method.label, {}).setdefault(cell.overlap, []).append(column.label)
        found: dict[str, list[str]] = {}
        for label, texts in said.items():
            for text, columns in texts.items():
                found.setdefault(text, []).append(label if len(texts) == 1 else f"{label} ({', '.join(columns)})")
        return found

    @property
    def exclusions(self) -> list[str]:
        """A sentence per set of classes left out of macro means, naming the measurements it holds for."""
        same: dict[tuple[str, bool], list[str]] = {}
        for column in self.columns:
            if column.excluded:
                same.setdefault((", ".join(column.excluded), column.uneven), []).append(column.label)
        return [
            f"{', '.join(labels)}: not in the macro mean for want of a positive or a negative: {names}"
            + ("; rows differ in this, so their means are over different classes" if uneven else "")
            for (names, uneven), labels in same.items()
        ]


@dataclass(frozen=True)
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

    @property
    def cite_key(self) -> str:
        """The digest of the keys of all rows: names exactly this section."""
        return digest([record.key for record in self.records])


def scores_of(record: ResultRecord) -> Mapping[str, Score]:
    """Return the row's macro scores; none where it was not scored."""
    return record.outcome.scores if record.status == "scored" and record.outcome is not None else {}


def build_board(records: Iterable[ResultRecord]) -> list[Section]:
    """Return the sections of a board, real ones first; the order of the records does not matter."""
    unique = {record.key: record for record in records}
    groups: dict[tuple[bool, str], list[ResultRecord]] = defaultdict(list)
    for _, record in sorted(unique.items()):
        groups[record.generated, record.inputs.protocol].append(record)
    ordered = sorted(groups.values(), key=_section_order)
    return [_section(members, number) for number, members in enumerate(ordered, 1)]


def _section_order(members: list[ResultRecord]) -> tuple[bool, str, int, str]:
    first = members[0]
    return first.generated, first.protocol, -first.protocol_revision, first.inputs.protocol


def _section(records: list[ResultRecord], number: int) -> Section:
    first = records[0]
    methods = _methods(records, f"s{number}")
    of_table: dict[str, list[ResultRecord]] = defaultdict(list)
    for record in records:
        of_table["transfer" if record.evaluation == "transfer" else plain(record.task)].append(record)
    titles = sorted(of_table, key=lambda title: (title == "transfer", title))
    return Section(
        anchor=f"s{number}",
        protocol=plain(first.protocol),
        revision=first.protocol_revision,
        hash=plain(first.inputs.protocol),
        generated=first.generated,
        tables=tuple(_table(title, of_table[title], methods) for title in titles),
        methods=tuple(methods.values()),
        records=tuple(records),
    )


def _methods(records: list[ResultRecord], prefix: str) -> dict[tuple[str, str], Method]:
    """Return the methods by (name, digest of what the model is); equal names of different models show their digest."""
    rows: dict[tuple[str, str], list[ResultRecord]] = defaultdict(list)
    for record in records:
        rows[_identity(record)].append(record)
    names = [name for name, _ in rows]
    return {
        (name, model): Method(
            anchor=f"{prefix}-m{number}",
            label=(plain(name) or "unnamed") + (f" · {model[:6]}" if names.count(name) > 1 else ""),
            records=tuple(members),
        )
        for number, ((name, model), members) in enumerate(sorted(rows.items()), 1)
    }


def _identity(record: ResultRecord) -> tuple[str, str]:
    return record.model, digest(record.inputs.model)


def _table(title: str, records: list[ResultRecord], methods: Mapping[tuple[str, str], Method]) -> Table:
    """Return one table; its rows stand in the order of its first column, then of the next ones."""
    groups: dict[tuple[object, ...], list[ResultRecord]] = defaultdict(list)
    for record in records:
        groups[_column_key(record)].append(record)
    anchor_of = {identity: method.anchor for identity, method in methods.items()}
    labels: list[str] = []
    columns = []
    for members in (groups[key] for key in sorted(groups, key=repr)):
        labels.append(_column_label(members[0]))
        again = labels.count(labels[-1])  # measured otherwise (version, options or data): a column of its own
        columns.append(_column(labels[-1] + (f" #{again}" if again > 1 else ""), members, anchor_of))
    columns.sort(key=_column_order)
    present = {anchor for column in columns for anchor in column.cells}
    rows = [method for method in methods.values() if method.anchor in present]
    rows.sort(key=lambda method: (*(_below_first(column, method) for column in columns), method.label))
    return Table(title=title, columns=tuple(columns), methods=tuple(rows))


def _below_first(column: Column, method: Method) -> float:
    cell = column.cells.get(method.anchor)
    score = cell.score("auroc") if cell else None
    return -score.value if score else 1.0


def _column_key(record: ResultRecord) -> tuple[object, ...]:
    """Return what must be equal for two rows to be compared."""
    data = [record.inputs.datasets.get(alias, "") for alias in datasets_of(record.task)]
    return record.task, record.evaluation, record.evaluation_version, record.setting, digest(record.inputs.evaluation), *data


def _column_label(record: ResultRecord) -> str:
    if record.evaluation == "transfer":
        return plain(f"{record.task.replace('->', ' → ')} {record.setting}")
    return plain(f"{evaluation_label(record.evaluation)} {record.setting}")


def evaluation_label(name: str) -> str:
    """Return an evaluation's name as a reader says it."""
    return _LABELS.get(name, plain(name).replace("_", " "))


def fraction_of(setting: str) -> float | None:
    """Return the share of labels that a setting such as "1 %" names, in (0, 1], or None."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", setting)
    return float(match[1]) / 100 if match and float(match[1]) > 0 else None


def _column_order(column: Column) -> tuple[object, ...]:
    place = _ORDER.index(column.evaluation) if column.evaluation in _ORDER else len(_ORDER)
    return place, column.evaluation, column.task, fraction_of(column.setting) or 0.0, column.setting, column.label


def _column(label: str, records: list[ResultRecord], anchor_of: Mapping[tuple[str, str], str]) -> Column:
    by_anchor = {anchor_of[_identity(record)]: record for record in records}
    placed = {
        metric: standings({a: scores_of(r)[metric] for a, r in by_anchor.items() if metric in scores_of(r)})
        for metric in METRICS
    }
    cells = {
        anchor: Cell(
            record=record,
            standings={metric: placed[metric][anchor] for metric in METRICS if anchor in placed[metric]},
            leaks=tuple(leaks(record)),
            overlap=plain(overlap_text(record)),
        )
        for anchor, record in by_anchor.items()
    }
    first = records[0]
    reported = () if first.generated else tuple(reported_for(first.evaluation, first.setting, first.task))
    return Column(label, first.evaluation, plain(first.setting), plain(first.task), cells, reported)
