"""The plan: every row of a run with its key, known before any work; rows that are there already are not run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from melp_bench.errors import UserError
from melp_bench.evaluations import ModelTraits
from melp_bench.plugins import Catalogue
from melp_bench.protocol import Protocol
from melp_bench.results import Inputs, read_result
from melp_bench.runs.candidates import Candidate
from melp_bench.runs.components import signal_spec
from melp_bench.runs.measurements import Planned, measurements
from melp_bench.runs.published_files import PublishedFiles
from melp_bench.runs.tasks import task_key
from melp_bench.runs.versions import ROWS
from melp_bench.store import Store


@dataclass(frozen=True)
class Row:
    """One row to be: a candidate, what is measured, all it depends on, and why it does not fit, if it does not."""

    candidate: Candidate
    planned: Planned
    inputs: Inputs
    reason: str | None = None

    def path(self, results: Path, protocol: Protocol) -> Path:
        """Return where the row's file is, or will be."""
        return results / protocol.name / f"{self.inputs.key}.json"

    def __str__(self) -> str:
        return str(self.planned)


@dataclass(frozen=True)
class Plan:
    """All rows of a run, and the data they are measured on."""

    protocol: Protocol
    rows: tuple[Row, ...]
    results: Path
    stores: Mapping[str, Store]
    files: PublishedFiles

    def missing(self) -> list[Row]:
        """Return the rows that are not there yet, made here, under this protocol or any other; a damaged one is not there."""
        there = {path.stem for path in self.results.glob("*/*.json") if path.stem in self._keys and _is_made_here(path)}
        return [row for row in self.rows if row.inputs.key not in there]

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset(row.inputs.key for row in self.rows)


def _is_made_here(path: Path) -> bool:
    """Return whether the file is a whole row, and none that somebody sent: a run makes such a one again."""
    try:
        return read_result(path).submitted is None
    except UserError:
        return False


def make_plan(
    protocol: Protocol,
    candidates: Sequence[Candidate],
    catalogue: Catalogue,
    stores: Mapping[str, Store],
    results: Path,
    files: PublishedFiles | None = None,
) -> Plan:
    """Return the plan of `protocol` for `candidates`; `files` are the label files of tasks with the published split.

    Raises:
        UserError: two candidates have one name, so that their rows could not be told apart; or options do not fit.
        UnknownName: a task is not among its dataset's, or there is no such evaluation or metric.
    """
    labels = [candidate.told for candidate in candidates]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UserError(f"models {twice} are given twice; give each once, or name them apart in their recipes")
    files, rows = files or {}, list[Row]()
    asked = [(planned, _data(planned, protocol, stores, files)) for planned in measurements(protocol, catalogue)]
    for candidate in candidates:
        model, code, made_by = _model(candidate)
        unfed = _unfed(candidate, catalogue, stores)
        for planned, data in asked:
            inputs = Inputs(
                model=model,
                evaluation=planned.key_inputs,
                task=planned.measurement.task,
                interval=protocol.interval.model_dump(mode="json"),
                code={**code, **planned.code},
                versions={**made_by, **ROWS, f"evaluation {planned.name}": planned.evaluation.version},
                **data,
            )
            unfit = [unfed[alias] for alias in planned.aliases if alias in unfed]
            reason = planned.evaluation.fits(traits(candidate)) or (unfit[0] if unfit else None)
            rows.append(Row(candidate, planned, inputs, reason))
    return Plan(protocol, tuple(rows), results, stores, files)


def _unfed(candidate: Candidate, catalogue: Catalogue, stores: Mapping[str, Store]) -> dict[str, str]:
    """Return why the candidate's encoder cannot read a dataset, by alias, of those that it cannot."""
    part = candidate.recipe.encoder
    spec = signal_spec(catalogue.ecg_encoders[part.name], part.options)
    if spec is None:
        return {}
    found = {alias: store.refusal(spec) for alias, store in stores.items()}
    return {alias: reason for alias, reason in found.items() if reason is not None}


def traits(candidate: Candidate) -> ModelTraits:
    """Return what is known of a candidate's model before it has weights."""
    return ModelTraits(candidate.label, candidate.recipe.text is not None, "budget" not in candidate.identity)


def _model(candidate: Candidate) -> tuple[dict[str, Any], dict[str, str], dict[str, int]]:
    """Return what a candidate's weights depend on, the code and the versions of what makes and uses them apart."""
    identity = dict(candidate.identity)
    return identity, dict(identity.pop("code", {})), dict(identity.pop("versions", {}))


def _data(planned: Planned, protocol: Protocol, stores: Mapping[str, Store], files: PublishedFiles) -> dict[str, Any]:
    """Return the digests of the tasks that a row reads, and of their records."""
    prompts = planned.evaluation.reads_prompts
    tasks = {task: task_key(task, protocol, stores, files, prompts=prompts) for task in planned.measurement.tasks}
    return {"tasks": tasks, "datasets": {alias: stores[alias].fingerprint for alias in planned.aliases}}
