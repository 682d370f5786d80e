"""From a task's name to its records and its split, and to the digests that stand for both in a row's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from melp_bench.errors import UserError
from melp_bench.evaluations import TaskRecords
from melp_bench.protocol import LISTED, DatasetUse, Protocol
from melp_bench.runs.defective_labels import labels_by_substring, with_moved_columns
from melp_bench.runs.prepared_records import signal_defects
from melp_bench.runs.published_files import PublishedFiles, published_labels, published_split
from melp_bench.split_tables import read_split
from melp_bench.splits import FOLD_SPLITS, Split
from melp_bench.store import Store


def task_split(name: str, protocol: Protocol, files: PublishedFiles) -> Split:
    """Return the split of the task "alias/task": the one place where a protocol's word becomes a value."""
    if name in files:
        return published_split(files[name])
    use = _use(name, protocol)
    if use.split == LISTED:
        if not use.split_file:
            raise UserError(f"task {name!r} has split = 'listed' and no split_file; name a CSV of record ids and parts")
        return read_split(use.split_file)
    return FOLD_SPLITS[use.split]


def task_records(name: str, protocol: Protocol, stores: Mapping[str, Store], files: PublishedFiles) -> TaskRecords:
    """Return the records that the task "alias/task" is about, sorted by record id.

    Raises:
        UserError: the protocol has no such dataset, the store none of the records that label files name, or the records
            cannot be split as the protocol says.
        UnknownName: the dataset has no such task.
    """
    store, task = _found(name, stores)
    use = _use(name, protocol)
    if name in files:
        chosen, labels, published = published_labels(store, files[name])
        classes = files[name].parts["test"].classes
    else:
        chosen = np.flatnonzero(store.eligible(task))
        by_substring = use.labels == "substring"
        labels, published = (labels_by_substring(store, task) if by_substring else store.labels(task))[chosen], None
        classes = store.task(task).classes
    order = np.argsort(store.record_ids[chosen], kind="stable")
    where = chosen[order]
    split = task_split(name, protocol, files)
    try:
        parts = split.parts(store.record_ids[where], store.patient_ids[where], store.folds[where])
    except UserError as error:
        raise UserError(f"task {name!r}: {error}") from error
    labels = labels[order]
    if circle := use.moved_columns.get(task):
        labels = with_moved_columns(labels, classes, circle, parts[0].train, name)
    return TaskRecords(
        name=name,
        dataset=store.name,
        classes=classes,
        labels=labels,
        record_ids=store.record_ids[where],
        patients=store.patient_ids[where],
        ages=store.ages[where],
        sexes=store.sexes[where],
        reports=tuple(store.reports[i] for i in where.tolist()),
        prompts=store.task(task).prompts,
        parts=parts,
        positions=where,
        published=published and replace(published, rows=published.rows[order]),
        details=split.details(parts),
    )


def task_key(
    name: str, protocol: Protocol, stores: Mapping[str, Store], files: PublishedFiles, *, prompts: bool
) -> dict[str, Any]:
    """Return what decides the records, labels and parts of a task, and with `prompts` its prompts: plain JSON.

    Label files decide labels, too, and their digests are their split's identity. Defects that the protocol reproduces are in it
    where there are any, those of signals among them.

    Raises:
        UserError: the protocol has no such dataset.
        UnknownName: the dataset has no such task.
    """
    store, task = _found(name, stores)
    worded = {"prompts": store.task_digest(task, prompts=True)} if prompts else {}
    labels = {} if name in files else {"labels": store.task_digest(task)}
    use = _use(name, protocol)
    wrong: dict[str, Any] = signal_defects(use)
    if use.labels != "by-name":
        wrong["labels"] = use.labels
    if circle := use.moved_columns.get(task):
        wrong["moved_columns"] = circle
    return {**labels, "split": task_split(name, protocol, files).identity, **worded, **({"defects": wrong} if wrong else {})}


def _use(name: str, protocol: Protocol) -> DatasetUse:
    """Return how the protocol uses the dataset of the task "alias/task"."""
    return protocol.datasets[name.partition("/")[0]]


def _found(name: str, stores: Mapping[str, Store]) -> tuple[Store, str]:
    alias, slash, task = name.partition("/")
    if not slash or alias not in stores:
        raise UserError(f"task {name!r} is not ALIAS/TASK of a dataset of the protocol; datasets: {', '.join(stores)}")
    stores[alias].task(task)
    return stores[alias], task
