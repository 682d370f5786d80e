"""The classes that two tasks share: by name, by a map that a protocol declares, or by a named one of `transfer_maps.toml`.

A shared class is positive where any of its target classes is, and has the largest score of its source classes. The named maps
are read in either direction. `corrected` takes the target classes of one source class together, as they are one question;
`published` asks for each target class by itself, with the score of the source class that it belongs to.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_bench.registry import nearest

ClassMap = Mapping[str, str | Sequence[str]]
"""Source class -> the target class or classes that it stands for."""


@dataclass(frozen=True)
class Shared:
    """A class that two tasks share, by the columns that stand for it in either."""

    name: str
    sources: list[int]
    targets: list[int]


class PairedClasses:
    """The option `class_map` of an evaluation of pairs: which classes two tasks share.

    Attributes:
        setting: what a reader is told of it; "" where it is usual.
    """

    def __init__(self, class_map: str | Mapping[str, ClassMap] | None, evaluation: str) -> None:
        """Keep the map, or the name of one.

        Raises:
            UserError: there is no map of that name.
        """
        self._name = class_map if isinstance(class_map, str) else None
        self._tables = {} if isinstance(class_map, str) else dict(class_map or {})
        self._evaluation = evaluation
        self.setting = "published map" if class_map == "published" else ""
        known = list(named_maps())
        if self._name is not None and self._name not in known:
            told = f"evaluation {evaluation!r} has the class_map {class_map!r}{nearest(self._name, known)}"
            raise mb.UserError(f"{told} Known: {', '.join(known)}; or give a table")

    def pairs(self, tasks: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yield every pair "a/x->b/y" of `tasks` with its two sides.

        Raises:
            UserError: a task is no pair, or a table is of a pair that is not asked for.
        """
        if unused := sorted(set(self._tables) - set(tasks)):
            told = f"evaluation {self._evaluation!r} has a class_map of {unused[0]!r}{nearest(unused[0], list(tasks))}"
            raise mb.UserError(told)
        for pair in tasks:
            source, arrow, target = pair.partition("->")
            if not arrow or not source or not target:
                raise mb.UserError(f"evaluation {self._evaluation!r} has the task {pair!r}; wanted a pair, as 'a/x->b/y'")
            yield pair, source, target

    def key(self, pair: str) -> Any:
        """Return what decides the classes of a pair: plain JSON."""
        return self._tables.get(pair) if self._name is None else {self._name: named_maps()[self._name]}

    def shared(self, pair: str, source: mb.TaskRecords, target: mb.TaskRecords) -> list[Shared]:
        """Return the classes that the two tasks of `pair` share, in the target's order.

        Raises:
            NotApplicable: they share none.
            UserError: the map names a class that its task does not have.
        """
        if self._name is None:
            return shared_classes(source, target, self._tables.get(pair))
        return shared_by_name_of_map(source, target, self._name)


@cache
def named_maps() -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return the maps by name, then by "dataset/task->dataset/task"."""
    text = files("melp_plugins.evaluations").joinpath("transfer_maps.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def shared_by_name_of_map(source: mb.TaskRecords, target: mb.TaskRecords, name: str) -> list[Shared]:
    """Return the classes that the map `name` lets two tasks share, in the target's order.

    Raises:
        NotApplicable: it says nothing of these tasks.
    """
    maps, one, two = named_maps()[name], _whole(source), _whole(target)
    if (forward := maps.get(f"{one}->{two}")) is not None:
        if name == "corrected":
            return shared_classes(source, target, forward)
        pairs = [(origin, aim, aim) for origin, aims in forward.items() for aim in aims]
    elif (back := maps.get(f"{two}->{one}")) is not None:
        pairs = [(origin, aim, aim) for aim, origins in back.items() for origin in origins]
    else:
        raise mb.NotApplicable(f"map {name!r} does not say which classes {source.name!r} and {target.name!r} share")
    where, found = f"class map {source.name}->{target.name}", dict[str, Shared]()
    for origin, aim, called in pairs:
        shared = found.setdefault(called, Shared(called, [], [_column(target, aim, where)]))
        shared.sources.append(_column(source, origin, where))
    return sorted(found.values(), key=lambda one: one.targets)


def shared_classes(source: mb.TaskRecords, target: mb.TaskRecords, class_map: ClassMap | None) -> list[Shared]:
    """Return the shared classes, in the target's order; a class of several target classes has the name of its source class.

    Raises:
        NotApplicable: no class is shared.
        UserError: the class map names a class that its task does not have, or gives one name two meanings.
    """
    if class_map is None:
        class_map = {name: name for name in source.classes if name in target.classes}
    found: dict[str, Shared] = {}
    for origin, aim in class_map.items():
        aims = [aim] if isinstance(aim, str) else list(aim)
        name = aims[0] if len(aims) == 1 else origin
        where = f"class map {source.name}->{target.name}"
        targets = sorted(_column(target, one, where) for one in aims)
        if not targets:
            raise mb.UserError(f"{where}: {origin!r} maps to no class; name the classes of {target.name!r} it stands for")
        shared = found.setdefault(name, Shared(name, [], targets))
        if shared.targets != targets:
            raise mb.UserError(
                f"{where}: {name!r} stands for two different sets of classes; give every shared class one meaning"
            )
        shared.sources.append(_column(source, origin, where))
    if not found:
        raise mb.NotApplicable(f"{source.name!r} and {target.name!r} share no class; declare a class_map in the protocol")
    return sorted(found.values(), key=lambda one: one.targets)


def largest(scores: NDArray[Any], columns: Sequence[list[int]]) -> NDArray[Any]:
    """Return the largest of the scores (S, N, ...) in each set of columns, shape (S, N, C)."""
    return np.stack([scores[..., some].max(axis=-1) for some in columns], axis=-1)


def any_of(labels: NDArray[np.bool_], columns: Sequence[list[int]]) -> NDArray[np.bool_]:
    """Return whether any of the labels (N, ...) in each set of columns holds, shape (N, C)."""
    return np.stack([labels[:, some].any(axis=-1) for some in columns], axis=-1)


def _whole(task: mb.TaskRecords) -> str:
    """Return a task as the maps name it: that of a sample as that of the whole dataset."""
    return f"{task.dataset.removesuffix('-sample')}/{task.name.partition('/')[2]}"


def _column(task: mb.TaskRecords, name: str, where: str) -> int:
    """Return the column of the class `name`.

    Raises:
        UserError: the task has no such class.
    """
    if name not in task.classes:
        raise mb.UserError(
            f"{where}: {task.name!r} has no class {name!r}{nearest(name, task.classes)} It has: {', '.join(task.classes)}"
        )
    return task.classes.index(name)
