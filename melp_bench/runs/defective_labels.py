"""Labels as published benchmarks got them wrong, made of the right ones: names found within names, columns that changed places.

Shapes: N records, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UserError
from melp_bench.records import Task
from melp_bench.registry import nearest
from melp_bench.splits import Positions
from melp_bench.store import Store


def labels_by_substring(store: Store, task: str) -> NDArray[np.bool_]:
    """Return the labels of all records of `store`, (N, C), when a class's name counts wherever it stands in the text.

    The text is the names of a record's statements, with commas between them.
    """
    names = statement_names(store.task(task), store.tasks)
    texts = [",".join(names.get(statement, statement) for statement in sorted(had)) for had in store.statements]
    classes = store.task(task).classes
    return np.array([[name in text for name in classes] for text in texts], dtype=np.bool_).reshape(len(texts), len(classes))


def statement_names(task: Task, tasks: Mapping[str, Task]) -> dict[str, str]:
    """Return the name of every statement that some task names: by this task's class, else by the finest of the others."""
    widest_first = sorted((other for other in tasks.values() if other is not task), key=lambda one: -len(one.classes))
    names: dict[str, str] = {}
    for one in (task, *widest_first):
        for name, members in one.members.items():
            for statement in members:
                names.setdefault(statement, name)
    return names


def with_moved_columns(
    labels: NDArray[np.bool_], classes: Sequence[str], circle: Sequence[str], train: Positions, task: str
) -> NDArray[np.bool_]:
    """Return `labels` (N, C) where, in the records at `train`, the column of each class of `circle` holds the next one's.

    Raises:
        UserError: the task has no such class, or the circle is none.
    """
    if unknown := [name for name in circle if name not in classes]:
        raise UserError(f"moved_columns of {task!r} name {unknown[0]!r}{nearest(unknown[0], tuple(classes))}")
    if len(circle) < 2 or len(set(circle)) < len(circle):
        raise UserError(f"moved_columns of {task!r} are {list(circle)}; wanted at least two classes, each once")
    columns = np.array([classes.index(name) for name in circle])
    moved = labels.copy()
    moved[np.ix_(train, columns)] = labels[np.ix_(train, np.roll(columns, -1))]
    return moved
