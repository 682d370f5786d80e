"""The audit of label files: each label column against the statements that stand beside it, and the columns' order.

Two defects are told apart. A label is a *false positive* where its column, by its own file's header, marks a class that the
row's statements do not name (acronyms compared as substrings make VB of 1AVB). A column is *moved* where files that are read
by position name different classes at one position; then the labels of those classes are another class's, though each file
alone is right.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.label_files.read import LabelFile, LabelFiles


@dataclass(frozen=True)
class Counts:
    """Positives of one class."""

    true: int = 0  # marked, and stated
    false: int = 0  # marked, and not stated
    missed: int = 0  # stated, and not marked

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.true + other.true, self.false + other.false, self.missed + other.missed)


@dataclass(frozen=True)
class Moved:
    """A position at which the files name different classes."""

    position: int  # among the label columns, from 0
    names: Mapping[str, str]  # by part
    read: Mapping[str, Counts]  # by part: what code gets that takes this column for the class it is in train


@dataclass(frozen=True)
class Audit:
    """What was found in the files of one task.

    Attributes:
        counts: part, then class; empty where the files state nothing beside their labels.
        wrong_rows: rows with at least one false positive, by part.
        within: false positives whose class is a substring of the statements' text.
        moved: the positions at which the files disagree.
        misread_rows: rows of a part whose labels change when its columns are taken by position for those of train.
    """

    files: LabelFiles
    counts: Mapping[str, Mapping[str, Counts]]
    wrong_rows: Mapping[str, int]
    within: int
    moved: tuple[Moved, ...]
    misread_rows: Mapping[str, int]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the training file."""
        return self.files.parts["train"].classes

    def total(self, name: str) -> Counts:
        """Return the counts of a class over all parts."""
        return sum((counts[name] for counts in self.counts.values()), Counts())

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return {
            "task": self.files.layout.name,
            "classes": list(self.classes),
            "files": {
                part: {"path": f.path, "sha256": f.sha256, "verified": f.verified, "rows": len(f)}
                for part, f in self.files.parts.items()
            },
            "counts": {part: {name: vars(c) for name, c in by.items()} for part, by in self.counts.items()},
            "rows_with_a_false_positive": dict(self.wrong_rows),
            "false_positives_within_the_text": self.within,
            "moved_columns": [
                {"position": m.position, "names": dict(m.names), "read": {part: vars(c) for part, c in m.read.items()}}
                for m in self.moved
            ],
            "rows_misread_by_position": dict(self.misread_rows),
        }


def audit(files: LabelFiles) -> Audit:
    """Return what the files of a task say of themselves."""
    parts = files.parts
    stated = {part: _stated(file) for part, file in parts.items() if files.layout.statements is not None}
    train = parts["train"].classes
    moved = [i for i in range(len(train)) if len({file.classes[i] for file in parts.values()}) > 1]
    return Audit(
        files=files,
        counts={
            part: {name: _counts(parts[part].labels[:, i], true[:, i]) for i, name in enumerate(parts[part].classes)}
            for part, true in stated.items()
        },
        wrong_rows={part: int((parts[part].labels & ~true).any(axis=1).sum()) for part, true in stated.items()},
        within=sum(_within(parts[part], true) for part, true in stated.items()),
        moved=tuple(Moved(i, {part: f.classes[i] for part, f in parts.items()}, _read_at(files, i, stated)) for i in moved),
        misread_rows={part: _misread(file, train) for part, file in parts.items()},
    )


def _stated(file: LabelFile) -> NDArray[np.bool_]:
    """Return which classes the statements name, each as a whole, (N, C) in the order of the file's columns."""
    return np.array([[name in names for name in file.classes] for names in file.statements], dtype=np.bool_)


def _counts(marked: NDArray[np.bool_], stated: NDArray[np.bool_]) -> Counts:
    return Counts(*(int(found.sum()) for found in (marked & stated, marked & ~stated, stated & ~marked)))


def _within(file: LabelFile, stated: NDArray[np.bool_]) -> int:
    rows, columns = np.nonzero(file.labels & ~stated)
    return sum(file.classes[c] in file.texts[r] for r, c in zip(rows.tolist(), columns.tolist(), strict=True))


def _read_at(files: LabelFiles, position: int, stated: Mapping[str, NDArray[np.bool_]]) -> dict[str, Counts]:
    """Return the counts of a column that is taken for the class it is in train, by part."""
    name = files.parts["train"].classes[position]
    return {
        part: _counts(files.parts[part].labels[:, position], true[:, files.parts[part].classes.index(name)])
        for part, true in stated.items()
    }


def _misread(file: LabelFile, train: tuple[str, ...]) -> int:
    """Return how many rows have other labels by name than by position."""
    by_name = file.labels[:, [file.classes.index(name) for name in train]]
    return int((by_name != file.labels).any(axis=1).sum())
