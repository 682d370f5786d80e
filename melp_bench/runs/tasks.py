"""From a task's name to its records and its split, and to the digests that stand for both in a row's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UserError
from melp_bench.evaluations import TaskRecords
from melp_bench.protocol import DatasetUse, Protocol
from melp_bench.runs.label_views import Views, describe, published_records
from melp_bench.splits import Part, cross_validation, holdout
from melp_bench.store import Store


def task_records(name: str, protocol: Protocol, stores: Mapping[str, Store], views: Views) -> TaskRecords:
    """Return the records that the task "alias/task" is about, sorted by record id.

    Raises:
        UserError: the protocol has no such dataset, or the store none of the records that label files name.
        UnknownName: the dataset has no such task.
    """
    store, task = _found(name, stores)
    if name in views:
        chosen, labels, folds, published = published_records(name, store, views[name])
        classes = views[name].parts["test"].classes
    else:
        chosen = np.flatnonzero(store.eligible(task))
        labels, folds, published = store.labels(task)[chosen], store.folds[chosen], None
        classes = store.task(task).classes
    order = np.argsort(store.record_ids[chosen], kind="stable")
    where = chosen[order]
    records = TaskRecords(
        name=name,
        dataset=store.name,
        classes=classes,
        labels=labels[order],
        record_ids=store.record_ids[where],
        patients=store.patient_ids[where],
        ages=store.ages[where],
        sexes=store.sexes[where],
        reports=tuple(store.reports[i] for i in where.tolist()),
        prompts=store.task(task).prompts,
        parts=_parts(protocol.datasets[name.partition("/")[0]], folds[order]),
        positions=where,
        published=published and replace(published, rows=published.rows[order]),
    )
    return replace(records, details={"label_files": describe(views[name], records)}) if name in views else records


def task_key(name: str, protocol: Protocol, stores: Mapping[str, Store], views: Views, *, prompts: bool) -> dict[str, Any]:
    """Return what decides the records, labels and parts of a task, and with `prompts` its prompts: plain JSON.

    Raises:
        UserError: the protocol has no such dataset.
        UnknownName: the dataset has no such task.
    """
    store, task = _found(name, stores)
    worded = {"prompts": store.task_digest(task, prompts=True)} if prompts else {}
    if name in views:
        return {"split": {"published": views[name].sha256}, **worded}
    return {"labels": store.task_digest(task), "split": protocol.datasets[name.partition("/")[0]].split, **worded}


def _parts(use: DatasetUse, folds: NDArray[np.int64]) -> tuple[Part, ...]:
    """Return the parts of a task's records in `folds` (N,): the one place where a protocol's split becomes positions."""
    return cross_validation(folds) if use.split == "cross-validate" else holdout(folds)


def _found(name: str, stores: Mapping[str, Store]) -> tuple[Store, str]:
    alias, slash, task = name.partition("/")
    if not slash or alias not in stores:
        raise UserError(f"task {name!r} is not ALIAS/TASK of a dataset of the protocol; datasets: {', '.join(stores)}")
    stores[alias].task(task)
    return stores[alias], task
