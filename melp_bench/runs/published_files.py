"""The `published` split: a task whose records, labels and parts are those of the literature's label files.

Training, validation and test are the three files; labels are their columns by position, as the published code takes them, and
classes are named by the test file's header. Everything else of a record (signal, patient) is the store's. The digests of the
files are in the key of every row that reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UnknownName, UserError
from melp_bench.evaluations import PublishedRows
from melp_bench.label_files import PARTS, LabelFiles, layouts, read_files
from melp_bench.protocol import PUBLISHED, Protocol
from melp_bench.registry import nearest
from melp_bench.splits import ListedSplit, SplitPart
from melp_bench.store import Store

PublishedFiles = Mapping[str, LabelFiles]
"""The label files of every task whose split they are, by "alias/task"."""


def open_label_files(protocol: Protocol, folder: Path | None) -> PublishedFiles:
    """Return the label files that the protocol's tasks are split by, below `folder`.

    Raises:
        UserError: no folder was given and one is needed, or the other way round; a file is missing, or not the one stated.
        UnknownName: the literature has no label files of a task.
    """
    published = {alias: use for alias, use in protocol.datasets.items() if use.split == PUBLISHED}
    if published and folder is None:
        raise UserError(
            f"protocol {protocol.name!r} reads the published label files of {', '.join(published)}; "
            "give the folder data_split that holds them with --published-splits DIR"
        )
    if folder is None:
        return {}
    if not published:
        raise UserError(f"protocol {protocol.name!r} has no dataset with split = 'published'; leave out --published-splits")
    found = {}
    for name in sorted({t for use in protocol.evaluations for t in use.single_tasks if t.partition("/")[0] in published}):
        alias, _, task = name.partition("/")
        wanted = f"{published[alias].dataset}/{task}"
        if wanted not in layouts():
            known = ", ".join(layouts())
            raise UnknownName(
                f"the literature has no label files of {wanted!r}{nearest(wanted, list(layouts()))} Known: {known}"
            )
        found[name] = read_files(folder, layouts()[wanted], published[alias].sha256)
    for alias, use in published.items():
        if unread := sorted(set(use.sha256) - {path for files in found.values() for path in files.sha256}):
            raise UserError(f"protocol {protocol.name!r} states sha256 of {unread} for {alias!r}, which no evaluation reads")
    return found


@dataclass(frozen=True, eq=False)
class PublishedSplit(ListedSplit):
    """By the records that label files list."""

    files: LabelFiles

    def details(self, parts: Sequence[SplitPart]) -> Mapping[str, Any]:
        """Return which files they are, whether somebody vouches for them, and how many of their records are here."""
        (part,) = parts
        here = {"train": len(part.train), "val": len(part.validation), "test": len(part.test)}
        listed = {
            file.path: {"sha256": file.sha256, "verified": file.verified, "rows": len(file), "records": here[name]}
            for name, file in self.files.parts.items()
        }
        return {"label_files": {"split": PUBLISHED, "files": listed}}


def published_split(files: LabelFiles) -> PublishedSplit:
    """Return the split whose parts are the files'."""
    train, validation, test = (files.parts[part].record_ids for part in PARTS)
    return PublishedSplit(train, validation, test, {PUBLISHED: files.sha256}, files)


def published_labels(store: Store, files: LabelFiles) -> tuple[NDArray[np.int64], NDArray[np.bool_], PublishedRows]:
    """Return the records of the label files that `store` has: positions in it, labels (N, C), and rows of the files.

    Raises:
        UserError: the store has none of them.
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
    labels = np.concatenate([files.parts[part].labels[[row for row, _ in found[part]]] for part in PARTS])
    return chosen, labels, PublishedRows(rows, len(files.parts["train"]), files.misnamed)
