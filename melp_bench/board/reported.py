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


def method_of(name: str) -> str:
    """Return the method of papers that a recipe, an encoder or a model on a board is of, "" for none.

    A model on a board is named by its recipe, be it changed or on another encoder ("merl+resnet1d-18", "merl (steps 10)").
    """
    plain = name.partition("+")[0].partition(" (")[0]
    return next((method for method, names in _file()["methods"].items() if re.fullmatch(names, plain)), "")


def reported_of(name: str) -> list[Reported]:
    """Return what papers report of the method that a recipe or an encoder is of, in the file's order."""
    method = method_of(name)
    return [cell for cell in _cells() if cell.method == method]


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
