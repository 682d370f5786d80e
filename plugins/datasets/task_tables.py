"""Tasks from a TOML file beside the datasets: a table per task, in it a table per class with its statements and prompts."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from melp_bench import Task

KEEP = "keep_unlabelled"


@cache
def read_tasks(file: str) -> dict[str, Task]:
    """Return the tasks of `file` by name.

    `[task.CLASS]` has `any`, the statements of which any makes the class positive, and `prompts`; `[task]` itself may say
    `keep_unlabelled = true`.
    """
    text = files("melp_plugins.datasets").joinpath(file).read_text(encoding="utf-8")
    return {
        name: Task(
            name,
            {group: frozenset(part["any"]) for group, part in table.items() if group != KEEP},
            {group: tuple(part["prompts"]) for group, part in table.items() if group != KEEP},
            bool(table.get(KEEP, False)),
        )
        for name, table in tomllib.loads(text).items()
    }
