"""The `published` view: a task whose records, labels and split are those of the literature's label files.

Training, validation and test are the three files; labels are their columns by position, as the published code takes them, and
classes are named by the test file's header. Everything else of a record (signal, patient) is the store's. The digests of the
files are in the key of every row that reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UnknownName, UserError
from melp_bench.evaluations import Published, TaskRecords
from melp_bench.label_files import PARTS, LabelFiles, layouts, read_files
from melp_bench.protocol import Protocol
from melp_bench.registry import nearest
from melp_bench.store import Store

FOLDS = {"train": 1, "val": 9, "test": 10}
"""Folds of a holdout that stand for the three files."""
Views = Mapping[str, LabelFiles]
"""The label files of every task that has the published view, by "alias/task"."""


def open_views(protocol: Protocol, folder: Path | None) -> Views:
    """Return the label files that the protocol's published views read, below `folder`.

    Raises:
        UserError: no folder was given and one is needed, or the other way round; a file is missing, or not the one stated.
        UnknownName: the literature has no label files of a task.
    """
    published = {alias: use for alias, use in protocol.datasets.items() if use.view == "published"}
    if published and folder is None:
        raise UserError(
            f"protocol {protocol.name!r} reads the published label files of {', '.join(published)}; "
            "give the folder data_split that holds them with --published-splits DIR"
        )
    if folder is None:
        return {}
    if not published:
        raise UserError(f"protocol {protocol.name!r} has no dataset with view = 'published'; leave out --published-splits")
    views = {}
    for name in sorted({t for use in protocol.evaluations for t in use.single_tasks if t.partition("/")[0] in published}):
        alias, _, task = name.partition("/")
        wanted = f"{published[alias].dataset}/{task}"
        if wanted not in layouts():
            known = ", ".join(layouts())
            raise UnknownName(
                f"the literature has no label files of {wanted!r}{nearest(wanted, list(layouts()))} Known: {known}"
            )
        views[name] = read_files(folder, layouts()[wanted], published[alias].sha256)
    for alias, use in published.items():
        if unread := sorted(set(use.sha256) - {path for view in views.values() for path in view.sha256}):
            raise UserError(f"protocol {protocol.name!r} states sha256 of {unread} for {alias!r}, which no evaluation reads")
    return views


def describe(files: LabelFiles, task: TaskRecords) -> dict[str, Any]:
    """Return what a row says of the label files it was scored with, and how many of their records were here: plain JSON."""
    (part,) = task.parts
    here = {"train": len(part.train), "val": len(part.validation), "test": len(part.test)}
    listed = {
        file.path: {"sha256": file.sha256, "verified": file.verified, "rows": len(file), "records": here[name]}
        for name, file in files.parts.items()
    }
    return {"view": "published", "files": listed}


def published_records(
    name: str, store: Store, files: LabelFiles
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], Published]:
    """Return the records of the label files that `store` has: positions in it, labels (N, C), folds, and rows of the files.

    Raises:
        UserError: the store has none of them, or a patient is in several files.
    """
    position = {record: i for i, record in enumerate(store.record_ids.tolist())}
    found = {
        part: [(row, position[r]) for row, r in enumerate(files.parts[part].record_ids) if r in position] for part in PARTS
    }
    rows = np.array([row for part in PARTS for row, _ in found[part]], dtype=np.int64)
    chosen = np.array([where for part in PARTS for _, where in found[part]], dtype=np.int64)
    if len(chosen) == 0:
        first = files.parts["train"].record_ids[0]
        raise UserError(f"the store of {store.name!r} has no record of {files.parts['train'].path!r}, such as {first!r}")
    folds = np.repeat([FOLDS[part] for part in PARTS], [len(found[part]) for part in PARTS])
    _refuse_shared_patients(name, store.patient_ids[chosen].tolist(), folds.tolist())
    labels = np.concatenate([files.parts[part].labels[[row for row, _ in found[part]]] for part in PARTS])
    return chosen, labels, folds, Published(rows, len(files.parts["train"]), files.misnamed)


def _refuse_shared_patients(name: str, patients: list[str], folds: list[int]) -> None:
    """Refuse files that put one patient on both sides of a split."""
    part: dict[str, int] = {}
    shared = {patient for patient, fold in zip(patients, folds, strict=True) if part.setdefault(patient, fold) != fold}
    if shared:
        raise UserError(f"label files of {name!r}: {len(shared)} patients are in several files, such as {min(shared)!r}")
