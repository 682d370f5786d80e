"""The one door to the evaluations: what a protocol asks for, cell by cell, and how a cell is run.

A cell is one row of one model: an evaluation, a task (or a pair of tasks) and a setting. Its `key_inputs` hold all that the
evaluation itself lets a score depend on, and nothing that only concerns its neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melp_bench.errors import UserError
from melp_bench.evaluations import linear_probe, transfer, zero_shot
from melp_bench.evaluations.subject import Subject, TaskData
from melp_bench.protocol import Interval, LinearProbe, Protocol, Transfer, ZeroShot
from melp_bench.results import Outcome


@dataclass(frozen=True)
class Cell:
    """One row to compute for a model."""

    evaluation: str  # "linear_probe"
    version: int
    task: str  # "synthetic/super"; "a/x->b/y" for transfer
    setting: str  # what tells rows of one evaluation and task apart: "1 %"; often ""
    options: Mapping[str, Any]  # plain JSON, for the key
    tasks: tuple[str, ...]  # every "alias/task" it reads
    spec: ZeroShot | LinearProbe | Transfer

    @property
    def aliases(self) -> tuple[str, ...]:
        """The datasets it reads, by the protocol's names, each once."""
        return tuple(dict.fromkeys(task.partition("/")[0] for task in self.tasks))

    @property
    def scored_alias(self) -> str:
        """The dataset whose records are scored."""
        return self.tasks[-1].partition("/")[0]

    @property
    def key_inputs(self) -> dict[str, Any]:
        """What the evaluation adds to a row's key: plain JSON."""
        return {"name": self.evaluation, "version": self.version, "options": dict(self.options)}

    def __str__(self) -> str:
        return " ".join(part for part in (self.evaluation, self.task, self.setting) if part)


def cells(protocol: Protocol) -> list[Cell]:
    """Return every cell of the protocol, in its order, each once.

    Raises:
        UserError: a fraction is not in (0, 1], a list of seeds is empty, or a prompt file cannot be read.
    """
    found: dict[str, Cell] = {}
    for spec in protocol.evaluations:
        for cell in _cells_of(spec):
            found.setdefault(f"{cell} {sorted(cell.options.items())}", cell)
    return list(found.values())


def _cells_of(spec: ZeroShot | LinearProbe | Transfer) -> Iterable[Cell]:
    if isinstance(spec, ZeroShot):
        options: dict[str, Any] = {"prompts": _prompts_key(spec.prompts)}
        setting = "" if spec.prompts == "ours" else f"prompts {Path(spec.prompts).stem}"
        for task in spec.tasks:
            yield Cell(spec.name, zero_shot.VERSION, task, setting, options, (task,), spec)
        return
    if not spec.seeds:
        raise UserError(f"evaluation {spec.name!r} has no seeds; give at least one, as seeds = [0, 1, 2]")
    shared = spec.model_dump(mode="json", exclude={"name", "tasks", "fractions", "pairs", "class_map"})
    if isinstance(spec, LinearProbe):
        for fraction in spec.fractions:
            if not 0 < fraction <= 1:
                raise UserError(f"evaluation {spec.name!r} has the fraction {fraction!r}; wanted more than 0 and at most 1")
        for task in spec.tasks:
            for fraction in spec.fractions:
                options = {**shared, "fraction": fraction}
                setting = f"{100 * fraction:g} %" + ("" if spec.subset == "nested" else f" ({spec.subset})")
                yield Cell(spec.name, linear_probe.VERSION, task, setting, options, (task,), spec)
        return
    for source, target in spec.pairs:
        name = f"{source}->{target}"
        options = {**shared, "class_map": spec.class_map.get(name)}
        yield Cell(spec.name, transfer.VERSION, name, "", options, (source, target), spec)


def run_cell(cell: Cell, subject: Subject, tasks: Mapping[str, TaskData], interval: Interval) -> Outcome:
    """Return the outcome of `cell` for `subject`, given the tasks it reads by name.

    Raises:
        NotApplicable: the pair of model and task cannot be scored; the reason is for the row.
        UserError: a task is missing, or something in the protocol or the model does not fit.
    """
    missing = [name for name in cell.tasks if name not in tasks]
    if missing:
        raise UserError(f"cell {str(cell)!r} reads {missing}, which are not loaded; loaded: {', '.join(tasks) or 'none'}")
    first, last = tasks[cell.tasks[0]], tasks[cell.tasks[-1]]
    match cell.spec:
        case ZeroShot():
            return zero_shot.run(subject, first, options=cell.spec, interval=interval)
        case LinearProbe():
            fraction = float(cell.options["fraction"])
            return linear_probe.run(subject, first, fraction=fraction, options=cell.spec, interval=interval)
        case Transfer():
            class_map = cell.options["class_map"]
            return transfer.run(subject, first, last, class_map=class_map, options=cell.spec, interval=interval)


def _prompts_key(prompts: str) -> str:
    """Return "ours" or the digest of the prompt file: its content counts, not where it lies."""
    if prompts == "ours":
        return prompts
    try:
        return hashlib.sha256(Path(prompts).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read prompts {prompts!r}: {error.strerror}; give a JSON file, or 'ours'") from error
