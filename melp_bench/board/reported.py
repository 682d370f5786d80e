"""Numbers that papers report, as context beside measured ones; never ranked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


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


def reported_for(evaluation: str, setting: str, task: str, metric: str | None) -> list[Reported]:
    """Return what papers report for this cell by this metric, in the file's order."""
    return [
        cell
        for cell in _cells()
        if (cell.evaluation, cell.metric) == (evaluation, metric)
        and cell.setting.replace(" ", "") == setting.replace(" ", "")
        and (cell.task == task or ("/" not in cell.task and task.startswith(f"{cell.task}/")))
    ]


@cache
def _cells() -> tuple[Reported, ...]:
    text = (resources.files("melp_bench.board") / "reported.toml").read_text(encoding="utf-8")
    return tuple(
        Reported(row["method"], row["evaluation"], row["setting"], task, metric, percent / 100, row["source"])
        for row in tomllib.loads(text)["row"]
        for metric, tasks in row["percent"].items()
        for task, percent in tasks.items()
    )
