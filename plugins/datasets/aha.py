"""AHA statements of twelve-lead ECGs, and the tasks that are made of them.

Source: Mason et al., Recommendations for the standardization and interpretation of the electrocardiogram, part II, Circulation
115:1325 (2007): primary statements by code, each with modifiers. `aha_statements.toml` lists the 44 primary statements that
occur in the records of Shandong Provincial Hospital (Liu et al. 2022). A record's statements are codes as text: "147", and
"147+362" where the reader added modifiers.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from melp_bench import Task

CATEGORIES = {
    "A": "NORMAL", "C": "SINUS", "D": "SUPRAVENTRICULAR", "E": "TACHYARRHYTHMIA", "F": "VENTRICULAR", "H": "AV",
    "I": "CONDUCTION", "J": "AXIS", "K": "HYPERTROPHY", "L": "STTU", "M": "MI",
}  # fmt: skip
"""The categories of which some statement occurs, by their letters, as classes of the task `category`."""


@dataclass(frozen=True)
class AhaStatement:
    """A primary statement."""

    code: str
    category: str
    class_name: str
    name: str
    prompts: tuple[str, ...]


@cache
def primary_statements() -> dict[str, AhaStatement]:
    """Return the primary statements by code."""
    text = files("melp_plugins.datasets").joinpath("aha_statements.toml").read_text(encoding="utf-8")
    return {
        code: AhaStatement(code, row["category"], row["class"], row["name"], tuple(row["prompts"]))
        for code, row in tomllib.loads(text).items()
    }


def with_modifiers(primary: str, modifiers: list[str]) -> Iterator[str]:
    """Yield the statements of a primary code: itself, and with its modifiers where it has any."""
    yield primary
    if modifiers:
        yield "+".join([primary, *modifiers])


@cache
def aha_tasks() -> dict[str, Task]:
    """Return `category` (11 classes) and `all` (44) by name."""
    table = primary_statements().values()
    groups = {name: [s for s in table if s.category == letter] for letter, name in CATEGORIES.items()}
    return {
        "category": Task(
            "category",
            {name: frozenset(s.code for s in group) for name, group in groups.items()},
            {name: tuple(s.prompts[0] for s in group) for name, group in groups.items()},
        ),
        "all": Task(
            "all",
            {s.class_name: frozenset({s.code}) for s in table},
            {s.class_name: s.prompts for s in table},
            keep_unlabelled=True,
        ),
    }
