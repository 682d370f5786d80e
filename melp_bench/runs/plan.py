"""The plan: every row of a run with its key, known before any work; rows that are there already are not run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melp_bench.errors import UserError
from melp_bench.evaluations.cells import Cell, cells
from melp_bench.protocol import Protocol, ZeroShot
from melp_bench.results import Inputs
from melp_bench.runs.label_views import Views
from melp_bench.runs.methods import Method
from melp_bench.store import Store


@dataclass(frozen=True)
class Row:
    """One row to be: a method, a cell, and all it depends on."""

    method: Method
    cell: Cell
    inputs: Inputs

    def path(self, results: Path, protocol: Protocol) -> Path:
        """Return where the row's file is, or will be."""
        return results / protocol.name / f"{self.inputs.key}.json"


@dataclass(frozen=True)
class Plan:
    """All rows of a run."""

    protocol: Protocol
    rows: tuple[Row, ...]
    results: Path

    def missing(self) -> list[Row]:
        """Return the rows that are not there yet."""
        return [row for row in self.rows if not row.path(self.results, self.protocol).is_file()]


def make_plan(
    protocol: Protocol, methods: Sequence[Method], stores: Mapping[str, Store], results: Path, views: Views | None = None
) -> Plan:
    """Return the plan of `protocol` for `methods`; `views` are the label files of tasks with the published view.

    Raises:
        UserError: two methods have one name, so that their rows could not be told apart.
        UnknownName: a task is not among its dataset's.
    """
    labels = [method.label for method in methods]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UserError(f"models {twice} are given twice; give each once, or name them apart in their recipes")
    planned = cells(protocol)
    for cell in planned:
        for task in cell.tasks:
            alias, _, name = task.partition("/")
            stores[alias].task(name)
    rows = [
        Row(
            method,
            cell,
            Inputs(
                protocol=protocol.hash,
                model=method.identity,
                evaluation={**cell.key_inputs, "tasks": _task_digests(cell, stores, views or {})},
                datasets={alias: stores[alias].fingerprint for alias in cell.aliases},
                task=cell.task,
            ),
        )
        for method in methods
        for cell in planned
    ]
    return Plan(protocol, tuple(rows), results)


def _task_digests(cell: Cell, stores: Mapping[str, Store], views: Views) -> dict[str, Any]:
    """Return the digests of the tasks that a cell reads; their prompts count only where they are read.

    A task with the published view is told by the digests of its label files, which decide its records and labels.
    """
    prompts = isinstance(cell.spec, ZeroShot) and cell.spec.prompts == "ours"
    digests: dict[str, Any] = {}
    for task in cell.tasks:
        alias, _, name = task.partition("/")
        if task in views:
            digests[task] = {"view": "published", "sha256": views[task].sha256}
            digests[task] |= {"prompts": stores[alias].task_digest(name, prompts=True)} if prompts else {}
        else:
            digests[task] = stores[alias].task_digest(name, prompts=prompts)
    return digests
