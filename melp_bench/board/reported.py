"""Numbers that papers report, as context beside measured ones; never ranked."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Reported:
    """One cell of a paper's table: a macro mean, without an interval."""

    method: str
    evaluation: str
    setting: str
    task: str
    metric: str
    value: float
    source: str
    suspected: str = ""  # why the cell looks like an error of copying


def reported_for(evaluation: str, setting: str, task: str, metric: str | None) -> list[Reported]:
    """Return what papers report for this cell by this metric, in the file's order."""
    return [
        cell
        for cell in _cells()
        if (cell.evaluation, cell.metric) == (evaluation, metric)
        and cell.setting.replace(" ", "") == setting.replace(" ", "")
        and (cell.task == task or ("/" not in cell.task and task.startswith(f"{cell.task}/")))
    ]


def reported_of(name: str, *, variants: bool = True) -> list[Reported]:
    """Return what papers report of the method that an encoder or a recipe `name` is of, in the file's order.

    `merl-2024` is MERL, and with `variants` so is `merl-resnet18`; case and punctuation within a method's name do not matter.
    """
    words = re.sub(r"-\d{4}$", "", name.lower()).split("-")
    stems = {"".join(words[:count]) for count in (range(1, len(words) + 1) if variants else (len(words),))}
    return [cell for cell in _cells() if re.sub(r"[^a-z0-9]", "", cell.method.lower()) in stems]


def is_rebuilt_by(method: str, model: str) -> bool:
    """Return whether the recipe that a model is named by, be it changed or on another encoder, rebuilds a reported method."""
    recipe = model.partition("+")[0].partition(" (")[0]
    return recipe in _file().get("recipes", {}).get(method, ())


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads((resources.files("melp_bench.board") / "reported.toml").read_text(encoding="utf-8"))


@cache
def _cells() -> tuple[Reported, ...]:
    return tuple(cell for table in _file()["table"] for cell in _table_cells(table))


def _table_cells(table: Mapping[str, Any]) -> Iterator[Reported]:
    """Yield the cells of one table of the file; nan stands for a cell that nobody could read."""
    doubts = {(one["method"], one["task"], one["setting"]): str(one["why"]) for one in table.get("suspected", ())}
    for method, of_tasks in table["percent"].items():
        for task, percents in zip(table["tasks"], of_tasks, strict=True):
            for setting, percent in zip(table["settings"], percents, strict=True):
                if math.isfinite(percent):
                    doubt = doubts.get((method, task, setting), "")
                    place = (method, table["evaluation"], setting, task, table["metric"])
                    yield Reported(*place, value=percent / 100, source=table["source"], suspected=doubt)
