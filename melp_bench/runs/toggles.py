"""Every published defect switched on alone: the protocol that measures a model with and without it.

A defect of an evaluation or a metric is another use of it. A defect of a dataset is another use of the dataset under an alias
of its own, "ALIAS+DEFECT", so that all is one protocol, with one plan, whose rows are found and kept like any others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from melp_bench.defects import Defect, defect, settled
from melp_bench.errors import UserError
from melp_bench.protocol import DatasetUse, EvaluationUse, MetricUse, Protocol
from melp_bench.runs.defective_labels import labels_by_substring
from melp_bench.signal import Scaling, SignalSpec
from melp_bench.store import Store

ALONE_AND_AS_PUBLISHED = "first-5-seconds+padding-before-scaling"
"""Padding shows only where a record is short, and in the publications it is short because it was cut."""


@dataclass(frozen=True)
class Toggle:
    """One evaluation without a defect, and the same with it: as many rows, one for one."""

    defect: Defect
    before: EvaluationUse
    after: EvaluationUse


@dataclass
class Toggled:
    """What a protocol becomes when each of some defects is toggled alone."""

    protocol: Protocol
    toggles: list[Toggle] = field(default_factory=list)
    idle: list[tuple[str, str, str]] = field(default_factory=list)  # defect, task, and why it changes nothing there


def defects_of(name: str) -> Defect:
    """Return the defect `name`, or, of several names with "+" between them, all of them as one.

    Raises:
        UserError: there is none of that name.
    """
    parts = [defect(part) for part in name.split("+")]
    if len(parts) == 1:
        return parts[0]

    def merged(tables: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
        names = dict.fromkeys(key for table in tables for key in table)
        return {key: {k: v for table in tables for k, v in table.get(key, {}).items()} for key in names}

    return Defect(
        name=name,
        summary="; ".join(part.summary for part in parts),
        source="; ".join(dict.fromkeys(part.source for part in parts)),
        dataset=merged([part.dataset for part in parts]),
        evaluations=merged([part.evaluations for part in parts]),
        metrics=merged([part.metrics for part in parts]),
    )


def toggled(protocol: Protocol, names: Sequence[str], stores: Mapping[str, Store], spec: SignalSpec | None) -> Toggled:
    """Return `protocol` with each of the defects in `names` toggled alone, for a model whose encoder asks for `spec`.

    What changes nothing on the records of `stores` is left out; a dataset whose store is not there is taken to be changed.

    Raises:
        UserError: there is no such defect, or none of them can be toggled in this protocol.
    """
    found = Toggled(protocol)
    datasets, uses = dict(protocol.datasets), list(protocol.evaluations)
    for name in names:
        one = defects_of(name)
        for use in protocol.evaluations:
            for toggle in (*_of_evaluation(one, use), *_of_metric(one, use), *_of_dataset(one, use, found, stores, spec)):
                found.toggles.append(toggle)
                uses += [toggle.before, toggle.after]
        for alias, dataset in protocol.datasets.items():
            datasets[f"{alias}+{name}"] = dataset.model_copy(update=one.of_dataset(dataset.dataset))
    if not found.toggles:
        why = f": {found.idle[0][2]}" if found.idle else ""
        raise UserError(f"protocol {protocol.name!r} measures nothing that {', '.join(names)} would change{why}")
    read = {alias for use in uses for alias in use.aliases} | set(protocol.pretrain.aliases if protocol.pretrain else ())
    pretrain = protocol.pretrain and protocol.pretrain.model_copy(update={"seeds": {}})
    changes: dict[str, Any] = {
        "name": f"{protocol.name}-by-defect",
        "summary": f"{protocol.name}, and with each of {len(names)} published defects switched on alone",
        "models": [],
        "pretrain": pretrain,
        "datasets": {alias: use for alias, use in datasets.items() if alias in read},
        "evaluations": uses,
    }
    found.protocol = protocol.model_copy(update=changes)
    return found


def _of_evaluation(one: Defect, use: EvaluationUse) -> Iterator[Toggle]:
    options = {**use.options, **one.evaluations.get(use.name, {})}
    if options != use.options:
        yield Toggle(one, use, use.model_copy(update={"options": options}))


def _of_metric(one: Defect, use: EvaluationUse) -> Iterator[Toggle]:
    """Yield the toggle of the first metric that a defect changes, measured alone so that it is the primary one."""
    for name, options in list(one.metrics.items())[:1]:
        before, after = (use.model_copy(update={"metrics": [MetricUse(name=name, options=o)]}) for o in ({}, options))
        yield Toggle(one, before, after)


def _of_dataset(
    one: Defect, use: EvaluationUse, found: Toggled, stores: Mapping[str, Store], spec: SignalSpec | None
) -> Iterator[Toggle]:
    """Yield the toggle of the tasks on whose records or labels a defect changes something, and list the others as idle."""
    renamed: dict[str, str] = {}
    for given in use.tasks:
        changed = []
        for task in given.split("->"):
            alias, _, name = task.partition("/")
            dataset = found.protocol.datasets[alias]
            reason = _idle(one.of_dataset(dataset.dataset), dataset, stores.get(alias), name, spec)
            if reason is None:
                changed.append(task)
            elif reason and (one.name, task, reason) not in found.idle:
                found.idle.append((one.name, task, reason))
        if changed:
            sides = (task.replace("/", f"+{one.name}/", 1) if task in changed else task for task in given.split("->"))
            renamed[given] = "->".join(sides)
    if renamed:
        yield Toggle(one, _for_tasks(use, {name: name for name in renamed}), _for_tasks(use, renamed))


def _for_tasks(use: EvaluationUse, renamed: Mapping[str, str]) -> EvaluationUse:
    """Return the use of the tasks in `renamed` alone, under their new names, in tables by task among its options, too."""

    def told(value: Any) -> Any:
        if not isinstance(value, Mapping) or not set(value) <= set(use.tasks):
            return value
        return {renamed[task]: content for task, content in value.items() if task in renamed}

    options = {name: told(value) for name, value in use.options.items()}
    return use.model_copy(update={"tasks": list(renamed.values()), "options": options})


def _idle(patch: Mapping[str, Any], use: DatasetUse, store: Store | None, task: str, spec: SignalSpec | None) -> str | None:
    """Return why a change of a dataset's use changes nothing for a task; "" where there is no change, None where there may be.

    Without a store nothing is known of its records.
    """
    reasons = []
    if "padding" in patch and spec is not None and spec.scaling is Scaling.MILLIVOLT:
        return "the encoder is given millivolts, and nothing is scaled"
    for key, value in patch.items():
        if key in settled(use.split):
            reasons.append(f"a dataset that is split by {use.split!r} has no {key.replace('_', ' ')} to change")
        elif key == "moved_columns":
            if task in value:
                return None
        elif store is None and getattr(use, key) != value:
            return None
        elif key == "labels" and store is not None:
            eligible = store.eligible(task)
            if (labels_by_substring(store, task) != store.labels(task))[eligible].any():
                return None
            reasons.append("no name of a class is found within another statement's")
        elif key == "padding" and "seconds" not in patch and use.seconds is None and store is not None:
            wanted = spec.seconds if spec is not None else 0.0
            short = bool((store.num_samples / store.rates_hz < wanted - 1e-6).any())
            if spec is None or short:
                return None
            reasons.append(f"no record is shorter than {wanted:g} s")
        elif getattr(use, key) != value:
            return None
    return "; ".join(reasons)
