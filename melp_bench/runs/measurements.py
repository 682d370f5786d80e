"""What a protocol asks of any model, row by row: evaluations and metrics built from their names, once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from melp_bench.canonical import canonical_json
from melp_bench.code_digest import code_digest
from melp_bench.errors import UserError
from melp_bench.evaluations import Evaluation, Measurement
from melp_bench.metrics import Metric
from melp_bench.plugins import Catalogue
from melp_bench.protocol import EvaluationUse, MetricUse, Protocol
from melp_bench.runs.components import build_component


@dataclass(frozen=True)
class Planned:
    """One row to be, of any model."""

    name: str  # of the evaluation: "linear_probe"
    evaluation: Evaluation
    measurement: Measurement
    metrics: tuple[Metric, ...]  # the first is primary
    measured: list[dict[str, Any]]  # the metrics' names and options: plain JSON
    code: dict[str, str]  # of the evaluation and its metrics
    order: int = 0  # its place among the protocol's rows

    @property
    def aliases(self) -> tuple[str, ...]:
        """The datasets it reads, by the protocol's names, each once."""
        return tuple(dict.fromkeys(task.partition("/")[0] for task in self.measurement.tasks))

    @property
    def scored_task(self) -> str:
        """The task whose records are scored."""
        return self.measurement.tasks[-1]

    @property
    def scored_alias(self) -> str:
        """The dataset whose records are scored."""
        return self.scored_task.partition("/")[0]

    @property
    def key_inputs(self) -> dict[str, Any]:
        """What the evaluation adds to a row's key: plain JSON."""
        return {"name": self.name, "options": dict(self.measurement.options), "metrics": self.measured}

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.measurement.task, self.measurement.setting) if part)


def measurements(protocol: Protocol, catalogue: Catalogue) -> list[Planned]:
    """Return every row that the protocol asks of a model, in its order, each once.

    Raises:
        UnknownName: there is no such evaluation or metric.
        UserError: an option or a task does not fit, or options are not plain JSON.
    """
    found: dict[str, Planned] = {}
    for use in protocol.evaluations:
        for planned in _planned(use, catalogue):
            found.setdefault(identity_of(planned), planned)
    return [replace(planned, order=place) for place, planned in enumerate(_told_apart(list(found.values())))]


def _planned(use: EvaluationUse, catalogue: Catalogue) -> Iterable[Planned]:
    entry = catalogue.evaluations[use.name]
    evaluation = build_component(entry, use.options)
    uses = use.metrics or [MetricUse(name=name) for name in evaluation.metrics]
    entries = [catalogue.metrics[one.name] for one in uses]
    measured = [{"name": one.name, "options": e.resolve(one.options)} for one, e in zip(uses, entries, strict=True)]
    metrics = tuple(build_component(e, one.options) for one, e in zip(uses, entries, strict=True))
    code = {f"evaluation {use.name}": code_digest(entry)}
    code |= {f"metric {one.name}": code_digest(e) for one, e in zip(uses, entries, strict=True)}
    for measurement in evaluation.expand(use.tasks):
        yield Planned(use.name, evaluation, measurement, metrics, measured, code)


def identity_of(planned: Planned) -> str:
    """Return what tells rows apart, as text.

    Raises:
        UserError: the evaluation's options are not plain JSON.
    """
    try:
        return canonical_json([planned.measurement.task, planned.measurement.tasks, planned.key_inputs])
    except (TypeError, ValueError) as error:
        raise UserError(f"evaluation {planned.name!r} has options for its key that are not plain JSON: {error}") from error


def _told_apart(rows: Sequence[Planned]) -> list[Planned]:
    """Return the rows; of those a reader could not tell apart, each says the options in which they differ."""
    alike: dict[str, list[Planned]] = defaultdict(list)
    for row in rows:
        alike[str(row)].append(row)
    return [row if len(alike[str(row)]) == 1 else _with_options(row, alike[str(row)]) for row in rows]


def _with_options(row: Planned, others: Sequence[Planned]) -> Planned:
    def options(one: Planned) -> dict[str, Any]:
        return {**one.measurement.options, "metrics": ", ".join(metric.label for metric in one.metrics)}

    mine = options(row)
    differing = [name for name in mine if len({canonical_json(options(one).get(name)) for one in others}) > 1]
    told = ", ".join(f"{name} = {mine[name]}" for name in differing)
    setting = f"{row.measurement.setting} ({told})".strip()
    return replace(row, measurement=replace(row.measurement, setting=setting))
