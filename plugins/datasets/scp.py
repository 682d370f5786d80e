"""SCP statements as PTB-XL uses them, and the tasks that the literature makes of them.

Paper: Wagner et al., PTB-XL, a large publicly available electrocardiography dataset (2020); aggregation as published with it
(Strodthoff et al., Deep Learning for ECG Analysis, 2020): a class is positive where any of its statements is present, with
whatever likelihood. Class names are those of the published label files, which drop outer underscores (`_AVB` is `AVB`).
Prompts are ours: each says its class and nothing of another.
"""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from melp_bench import Task

SUPER = ("NORM", "MI", "STTC", "CD", "HYP")


@dataclass(frozen=True)
class ScpStatement:
    """One of the 71 statements; `super_class` and `sub_class` are empty where it is not diagnostic."""

    code: str
    description: str
    super_class: str
    sub_class: str
    is_form: bool
    is_rhythm: bool


def class_name(name: str) -> str:
    """Return a statement's or subclass's name as the published label files have it."""
    return name.strip("_")


@cache
def statements() -> dict[str, ScpStatement]:
    """Return all statements by code."""
    text = files("melp_plugins.datasets").joinpath("scp_statements.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["code"]: ScpStatement(
            row["code"], row["description"], row["super"], row["sub"], row["form"] == "1", row["rhythm"] == "1"
        )
        for row in rows
    }


@cache
def _prompts() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return prompts: section ("super", "sub", "statement"), then class."""
    text = files("melp_plugins.datasets").joinpath("scp_prompts.toml").read_text(encoding="utf-8")
    return {section: {name: tuple(p) for name, p in book.items()} for section, book in tomllib.loads(text).items()}


def _grouped(name: str, class_of: dict[str, str], sections: tuple[str, ...], *, keep_unlabelled: bool = False) -> Task:
    """Return a task from code -> class; the first of `sections` that has prompts for a class gives them."""
    members: dict[str, set[str]] = {}
    for code, group in class_of.items():
        members.setdefault(group, set()).add(code)
    books = [_prompts()[section] for section in sections]
    prompts = {
        group: next(book[key] for book in books for key in (group, class_name(group)) if key in book) for group in members
    }
    return Task(name, {group: frozenset(codes) for group, codes in members.items()}, prompts, keep_unlabelled)


@cache
def tasks() -> dict[str, Task]:
    """Return the tasks `super` (5 classes), `sub` (23), `form` (19), `rhythm` (12) and `all` (71) by name."""
    table = statements().values()
    codes = {s.code: s.super_class for s in sorted(table, key=lambda s: SUPER.index(s.super_class) if s.super_class else 9)}
    return {
        "super": _grouped("super", {c: group for c, group in codes.items() if group}, ("super",)),
        "sub": _grouped("sub", {s.code: class_name(s.sub_class) for s in table if s.sub_class}, ("sub", "statement")),
        "form": _grouped("form", {s.code: class_name(s.code) for s in table if s.is_form}, ("statement",)),
        "rhythm": _grouped("rhythm", {s.code: class_name(s.code) for s in table if s.is_rhythm}, ("statement",)),
        "all": _grouped("all", {s.code: s.code for s in table}, ("statement_code", "statement"), keep_unlabelled=True),
    }
