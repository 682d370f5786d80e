"""Result records arranged into the sections of a board: which rows share a table and a column, and in what order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from melp_bench.board.escape import plain
from melp_bench.board.figures import metric_text
from melp_bench.board.leakage import datasets_of, leaks, overlap_text
from melp_bench.board.pretraining_seeds import by_seed, over_seeds
from melp_bench.board.ranking import Standing, standings
from melp_bench.board.reported import reported_for
from melp_bench.board.sections import Cell, Column, Method, Section, Table, fraction_of, merged, scored_outcome
from melp_bench.canonical import digest
from melp_bench.results import MetricLabel, ResultRecord, Score, current

MEASURED_BY = ("evaluation", "metric")  # kinds of components whose code decides what a number means, whatever the model


def build_board(records: Iterable[ResultRecord]) -> list[Section]:
    """Return the sections of a board, real ones first; the order of the records does not matter."""
    unique = {record.key: record for record in records}
    kept, superseded = current([record for _, record in sorted(unique.items())])
    groups: dict[tuple[bool, str], list[ResultRecord]] = defaultdict(list)
    for record in kept:
        groups[record.generated, record.protocol_hash].append(record)
    older = Counter(record.inputs.but_for_code for record in superseded)
    ordered = sorted(groups.values(), key=_section_order)
    return [_section(members, number, older) for number, members in enumerate(ordered, 1)]


def _section_order(members: list[ResultRecord]) -> tuple[bool, str, int, str]:
    first = members[0]
    return first.generated, first.protocol, -first.protocol_revision, first.protocol_hash


def _section(records: list[ResultRecord], number: int, older: Mapping[str, int]) -> Section:
    first = records[0]
    methods = _methods(records, f"s{number}")
    of_table: dict[tuple[bool, str], list[ResultRecord]] = defaultdict(list)
    for record in records:
        of_table[_table_key(record)].append(record)
    return Section(
        anchor=f"s{number}",
        protocol=plain(first.protocol),
        revision=first.protocol_revision,
        hash=plain(first.protocol_hash),
        generated=first.generated,
        tables=tuple(_table(key[1], of_table[key], methods) for key in sorted(of_table)),
        methods=tuple(methods.values()),
        records=tuple(records),
        superseded=sum(older.get(record.inputs.but_for_code, 0) for record in records),
    )


def _table_key(record: ResultRecord) -> tuple[bool, str]:
    """Return the table of a row: its task, or after all tasks the evaluation that reads pairs of them."""
    return (True, evaluation_label(record)) if _is_pair(record) else (False, plain(record.task))


def _is_pair(record: ResultRecord) -> bool:
    return "->" in record.task


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
    return record.model, digest(record.inputs.method)


def _table(title: str, records: list[ResultRecord], methods: Mapping[tuple[str, str], Method]) -> Table:
    """Return one table; its rows stand in the order of its first column, then of the next ones."""
    groups: dict[str, list[ResultRecord]] = defaultdict(list)
    for record in records:
        groups[_column_key(record)].append(record)
    anchor_of = {identity: method.anchor for identity, method in methods.items()}
    ordered = sorted(groups.values(), key=_column_order)
    columns = [
        _column(label, measurement, members, anchor_of)
        for (label, measurement), members in zip(_column_labels(ordered), ordered, strict=True)
    ]
    present = {anchor for column in columns for anchor in column.cells}
    rows = [method for method in methods.values() if method.anchor in present]
    rows.sort(key=lambda method: (*(_best_first(column, method) for column in columns), method.label))
    return Table(title=title, columns=tuple(columns), methods=tuple(rows))


def _best_first(column: Column, method: Method) -> tuple[bool, float]:
    cell = column.cells.get(method.anchor)
    score = cell.score(column.primary) if cell else None
    if score is None or column.metric is None:
        return True, 0.0
    return False, -score.value if column.metric.higher_is_better else score.value


def _column_key(record: ResultRecord) -> str:
    """Return the digest of what must be equal for two rows to be compared."""
    inputs = record.inputs
    measured_by = {name: code for name, code in inputs.code.items() if name.split(" ")[0] in MEASURED_BY}
    rule = [inputs.evaluation, inputs.tasks, inputs.interval, measured_by, inputs.versions.get("bootstrap")]
    data = [inputs.datasets.get(alias, "") for alias in datasets_of(record.task)]
    return digest([record.task, record.evaluation, record.evaluation_version, record.setting, rule, data])


def _column_order(members: list[ResultRecord]) -> tuple[object, ...]:
    """Return the place of a column: that of its rows in their protocol."""
    first = members[0]
    share = fraction_of(first.setting) or 0.0
    return min(r.order for r in members), evaluation_label(first), first.task, share, first.setting, _column_key(first)


def _column_labels(ordered: list[list[ResultRecord]]) -> list[tuple[str, str]]:
    """Return what tells the columns apart, with the metric that ranks where they differ in it, and without."""
    primaries = [metric_text(metric) if (metric := _primary(members)[1]) else "" for members in ordered]
    told = len({name for name in primaries if name}) > 1  # then a column says what ranks it
    seen: Counter[str] = Counter()
    labels: list[tuple[str, str]] = []
    for members, primary in zip(ordered, primaries, strict=True):
        measurement = _column_label(members[0])
        seen[measurement] += 1
        if (number := seen[measurement]) > 1:  # measured by another version, rule or metric, or on other data
            measurement += f" #{number}"
        labels.append((measurement + (f" ({primary})" if told and primary else ""), measurement))
    return labels


def _column_label(record: ResultRecord) -> str:
    subject = record.task.replace("->", " → ") if _is_pair(record) else evaluation_label(record)
    return plain(f"{subject} {record.setting}")


def evaluation_label(record: ResultRecord) -> str:
    """Return the row's evaluation as a reader says it."""
    return plain(record.evaluation_label or record.evaluation.replace("_", " "))


def _primary(members: list[ResultRecord]) -> tuple[str | None, MetricLabel | None]:
    """Return the name and label of the metric that ranks the rows; rows of one column agree in it."""
    for record in members:
        if (outcome := scored_outcome(record)) is not None:
            return outcome.primary, outcome.metrics[outcome.primary]
    return None, None


def _column(label: str, measurement: str, records: list[ResultRecord], anchor_of: Mapping[tuple[str, str], str]) -> Column:
    of_seeds: dict[str, list[ResultRecord]] = defaultdict(list)
    for record in records:
        of_seeds[anchor_of[_identity(record)]].append(record)
    by_anchor = {anchor: over_seeds(members) for anchor, members in of_seeds.items()}
    scores = {anchor: o.scores if (o := scored_outcome(record)) is not None else {} for anchor, record in by_anchor.items()}
    metrics = merged(o.metrics for record in records if (o := scored_outcome(record)) is not None)
    placed = {metric: _placed(metric, label.higher_is_better, scores) for metric, label in metrics.items()}
    cells = {
        anchor: Cell(
            record=record,
            standings={metric: placed[metric][anchor] for metric in metrics if anchor in placed[metric]},
            leaks=tuple(leaks(record)),
            overlap=plain(overlap_text(record)),
            seeds=tuple(by_seed(of_seeds[anchor])),
        )
        for anchor, record in by_anchor.items()
    }
    first, primary = records[0], _primary(records)[0]
    reported = () if first.generated else tuple(reported_for(first.evaluation, first.setting, first.task, primary))
    return Column(
        label=label,
        measurement=measurement,
        evaluation=evaluation_label(first),
        setting=plain(first.setting),
        task=plain(first.task),
        metrics=metrics,
        primary=primary,
        cells=cells,
        reported=reported,
    )


def _placed(metric: str, higher_is_better: bool, scores: Mapping[str, Mapping[str, Score]]) -> dict[str, Standing]:
    return standings({anchor: s[metric] for anchor, s in scores.items() if metric in s}, higher_is_better=higher_is_better)
