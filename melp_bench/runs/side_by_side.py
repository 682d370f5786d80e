"""The same models under two protocols: every score that both ask for beside the other, with its paired difference.

Evaluations of one name belong together in their order, and of one evaluation the rows of a task in theirs, so that a probe at
1 % of the labels stands beside the other protocol's probe at 1 %, whatever their options are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from melp_bench.board.figures import signed
from melp_bench.board.score_moves import Move, MovesPage, MovesWords
from melp_bench.errors import NotApplicable, UserError
from melp_bench.measure import measure
from melp_bench.plugins import Catalogue
from melp_bench.prediction_files import read_predictions
from melp_bench.protocol import EvaluationUse, Protocol, load_protocol
from melp_bench.results import Interval, Outcome, ResultRecord
from melp_bench.runs.measurements import Planned, identity_of, measurements
from melp_bench.runs.protocol_differences import by_place
from melp_bench.runs.run import RunResult
from melp_bench.runs.run_spec import RunSpec
from melp_bench.runs.sensitivity import move_between
from melp_bench.runs.verification import row_metrics


@dataclass(frozen=True)
class Pair:
    """A row under either protocol that measures one thing."""

    one: Planned
    two: Planned

    @property
    def setting(self) -> str:
        """What either is told by."""
        return " against ".join(dict.fromkeys(one.measurement.setting or "as usual" for one in (self.one, self.two)))


def specs_beside(spec: RunSpec, names: Sequence[str]) -> list[RunSpec]:
    """Return the runs of other protocols with the models of `spec`.

    Raises:
        UserError: a protocol is given twice.
        UnknownName: there is no such protocol.
    """
    specs = [replace(spec, protocol=load_protocol(name)) for name in names]
    told = [one.protocol.name for one in (spec, *specs)]
    if twice := sorted({name for name in told if told.count(name) > 1}):
        raise UserError(f"protocol {twice[0]!r} would stand beside itself; name each protocol once")
    return specs


def side_by_side(one: RunResult, two: RunResult, catalogue: Catalogue) -> MovesPage:
    """Return what moves from the protocol of one run to that of another, model by model.

    Raises:
        UserError: no row belongs to another, or the predictions of one are missing or damaged.
    """
    rules = one.plan.protocol, two.plan.protocol
    pairs, alone = _pairs(*rules, catalogue)
    rows = _rows(one), _rows(two)
    groups: dict[str, list[Move]] = {}
    for label in dict.fromkeys(row.candidate.told for row in one.plan.rows):
        moves = [
            move
            for pair in pairs
            if (first := rows[0].get((label, identity_of(pair.one)))) is not None
            if (second := rows[1].get((label, identity_of(pair.two)))) is not None
            for move in _moves(label, pair, (first, one.plan.results), (second, two.plan.results), catalogue)
        ]
        groups |= {label: moves} if moves else {}
    if not groups:
        raise UserError(f"protocols {rules[0].name!r} and {rules[1].name!r} measure nothing that is the same")
    told = " and ".join(f"{rule.name} (rev {rule.revision}, {rule.hash[:8]})" for rule in rules)
    return MovesPage(
        subject=f"{rules[1].name} beside {rules[0].name}",
        protocol=told,
        rows=tuple(move for moves in groups.values() for move in moves),
        idle=tuple(alone),
        summaries={label: _summary(moves) for label, moves in groups.items()},
        words=_words(rules, [move for moves in groups.values() for move in moves]),
    )


def _words(rules: tuple[Protocol, Protocol], moves: Sequence[Move]) -> MovesWords:
    changed, measured = best_changes(moves)
    best = f" In {changed} of {measured} measurements of several models, another model scores best." if measured else ""
    return MovesWords(
        heading="The same models under two protocols",
        lede=f"{{protocol}}, on the same records. Points are hundredths of the metric, by {rules[1].name} minus by "
        f"{rules[0].name}; the interval is that of the difference, both resampled by the same patients.{best}",
        subject="protocols",
        group="model",
        sides=(rules[0].name, rules[1].name),
        idle="What has nothing beside it",
    )


def best_changes(moves: Sequence[Move]) -> tuple[int, int]:
    """Return in how many measurements of at least two models another one is best afterwards, and how many there are."""
    columns: dict[tuple[str, str, str, str], list[Move]] = defaultdict(list)
    for move in moves:
        if move.metric is not None and move.before is not None and move.after is not None:
            columns[move.evaluation, move.task, move.setting, move.metric.label].append(move)
    several = [column for column in columns.values() if len(column) > 1]
    return sum(_best(column, after=False) != _best(column, after=True) for column in several), len(several)


def _best(column: Sequence[Move], *, after: bool) -> str:
    """Return the group whose score is best, the first of several."""

    def value(move: Move) -> float:
        score = move.after if after else move.before
        sign = 1.0 if move.metric is None or move.metric.higher_is_better else -1.0
        return -np.inf if score is None else sign * score.value

    return max(column, key=value).group


def _pairs(one: Protocol, two: Protocol, catalogue: Catalogue) -> tuple[list[Pair], list[tuple[str, str, str]]]:
    """Return the rows that belong together, and what is under one protocol alone: evaluation, task, and where."""
    first, second = by_place(one.evaluations), by_place(two.evaluations)
    pairs: list[Pair] = []
    alone: list[tuple[str, str, str]] = []
    for place in dict.fromkeys((*first, *second)):
        of_one = _by_task(one, first.get(place), catalogue)
        of_two = _by_task(two, second.get(place), catalogue)
        for task in dict.fromkeys((*of_one, *of_two)):
            rows = of_one.get(task, []), of_two.get(task, [])
            if len(rows[0]) == len(rows[1]):
                pairs += [Pair(*both) for both in zip(*rows, strict=True)]
            elif all(rows):
                alone.append((place, task, f"{len(rows[0])} rows in {one.name}, {len(rows[1])} in {two.name}"))
            else:
                alone.append((place, task, f"in {one.name if rows[0] else two.name} alone"))
    return pairs, alone


def _by_task(rule: Protocol, use: EvaluationUse | None, catalogue: Catalogue) -> Mapping[str, list[Planned]]:
    found: dict[str, list[Planned]] = defaultdict(list)
    for row in measurements(rule.model_copy(update={"evaluations": [use]}), catalogue) if use is not None else ():
        found[row.measurement.task].append(row)
    return found


def _rows(result: RunResult) -> dict[tuple[str, str], ResultRecord]:
    """Return the rows that are there, by model and what was measured."""
    records = {record.key: record for record in result.rows}
    return {
        (row.candidate.told, identity_of(row.planned)): records[row.inputs.key]
        for row in result.plan.rows
        if row.inputs.key in records
    }


def _moves(
    label: str, pair: Pair, first: tuple[ResultRecord, Path], second: tuple[ResultRecord, Path], catalogue: Catalogue
) -> Iterator[Move]:
    """Yield the moves of the metrics that both rows have; one that says why, where a row was not scored."""
    one, two = first[0], second[0]
    if one.status != "scored" or two.status != "scored":
        if one.status != two.status:  # what neither can score is no news
            yield move_between(label, pair.setting, one, two)
        return
    shared = [asked["name"] for asked in pair.one.measured if asked["name"] in {other["name"] for other in pair.two.measured}]
    for name in shared:
        outcomes = _by_metric(name, *first, catalogue), _by_metric(name, *second, catalogue)
        if outcomes[0] is not None and outcomes[1] is not None:
            yield move_between(label, pair.setting, one, two, (outcomes[0], outcomes[1]))


def _by_metric(name: str, record: ResultRecord, results: Path, catalogue: Catalogue) -> Outcome | None:
    """Return the row's outcome by one of its metrics, resamples and all: its own of the primary one, else made anew.

    None where the metric cannot be measured.
    """
    asked = [one["name"] for one in record.inputs.evaluation["metrics"]]
    if asked[0] == name:
        return record.outcome
    metric = row_metrics(record, catalogue)[asked.index(name)]
    predictions = read_predictions(results, record.predictions)
    try:
        return measure(predictions, [metric], Interval.model_validate(record.inputs.interval))
    except NotApplicable:
        return None


def _summary(moves: Sequence[Move]) -> str:
    """Return in a sentence how the scores of a model move, metric by metric."""
    by_metric: dict[str, list[Move]] = defaultdict(list)
    for move in moves:
        if move.metric is not None and move.points is not None:
            by_metric[move.metric.label].append(move)
    return "; ".join(_told(label, of) for label, of in by_metric.items()) or "Nothing of it can be compared"


def _told(metric: str, moves: Sequence[Move]) -> str:
    mean = signed(float(np.mean([move.points[0] for move in moves if move.points is not None])), 1)
    differing = [move for move in moves if move.difference is not None and move.difference.separable]
    up = sum(move.difference is not None and move.difference.value > 0 for move in differing)
    measured = f"{len(moves)} measurement{'s' if len(moves) > 1 else ''}"
    return f"{metric}, {measured}: {mean} points on average, {up} separably higher and {len(differing) - up} lower"
