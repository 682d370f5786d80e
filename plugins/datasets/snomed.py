"""SNOMED CT statements of twelve-lead ECGs, and the tasks that the literature makes of them.

Source: the diagnosis tables of the PhysioNet/Computing in Cardiology Challenge 2021 (Reyna et al., 2021) and the condition
names of Chapman-Shaoxing-Ningbo; `snomed_statements.csv` says which. A record's statements are codes as text; classes have
readable names. Acronyms are not safe as statements: AF is fibrillation in one table and flutter in the other.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from melp_bench import Task

CPSC_CLASSES: Mapping[str, str] = {
    "AFIB": "164889003",
    "VPC": "164884008",
    "NORM": "426783006",
    "1AVB": "270492004",
    "CRBBB": "59118001",
    "STE": "164931005",
    "PAC": "284470004",
    "CLBBB": "164909002",
    "STD": "429622005",
}
"""The nine classes of CPSC2018 by the names of the literature's label files, with the codes that the challenge gave them."""

SAME: Mapping[str, str] = {"733534002": "164909002", "713427006": "59118001", "63593006": "284470004", "17338001": "427172004"}
"""Pairs that the challenge scores as one diagnosis."""
_ALSO: Mapping[str, str] = {"251166008": "233896004"}
"""Codes of one condition in two packagings of Chapman-Shaoxing-Ningbo: AV nodal reentrant tachycardia."""
FEWEST = 10
"""A statement becomes a class of an `all` task where at least so many records of the whole source carry it."""


@dataclass(frozen=True)
class SnomedStatement:
    """A code; `records` counts the records that carry it, by source, where the challenge's tables give a number."""

    code: str
    abbreviation: str
    name: str
    conditions: tuple[str, ...]  # acronyms of Chapman-Shaoxing-Ningbo
    is_scored: bool
    records: Mapping[str, int]


@cache
def statements() -> dict[str, SnomedStatement]:
    """Return all known statements by code."""
    text = files("melp_plugins.datasets").joinpath("snomed_statements.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["code"]: SnomedStatement(
            row["code"],
            row["abbreviation"],
            row["name"],
            tuple(row["conditions"].split()),
            row["scored"] == "1",
            {source: int(row[source]) for source in ("cpsc2018", "g12ec", "ptb_xl", "csn") if row[source]},
        )
        for row in rows
    }


@cache
def _lists(file: str) -> dict[str, tuple[str, ...]]:
    """Return the lists of text in a TOML file beside this one, by name."""
    text = files("melp_plugins.datasets").joinpath(file).read_text(encoding="utf-8")
    return {name: tuple(texts) for name, texts in tomllib.loads(text).items()}


def prompts(codes: Iterable[str]) -> tuple[str, ...]:
    """Return the prompts of the codes, each once."""
    return tuple(
        dict.fromkeys(text for code in codes for text in _lists("snomed_prompts.toml").get(code, (statements()[code].name,)))
    )


def task(name: str, members: Mapping[str, Iterable[str]], *, keep_unlabelled: bool = False) -> Task:
    """Return a task from class -> codes, with prompts."""
    kept = {group: tuple(codes) for group, codes in members.items()}
    return Task(
        name,
        {group: frozenset(codes) for group, codes in kept.items()},
        {group: prompts(codes) for group, codes in kept.items()},
        keep_unlabelled,
    )


@cache
def cpsc_tasks() -> dict[str, Task]:
    """Return the task `all` of CPSC2018: its nine classes."""
    return {"all": task("all", {name: (code,) for name, code in CPSC_CLASSES.items()})}


@cache
def csn_tasks() -> dict[str, Task]:
    """Return `published` (38 classes) and `all` (every statement of at least 10 records) of Chapman-Shaoxing-Ningbo.

    The source gives the left bundle's blocks one code, and infarctions of all walls another: such a class is the code's.
    """
    code_of = {acronym: s.code for s in statements().values() for acronym in s.conditions}
    every = {
        (s.conditions[0] if s.conditions else s.abbreviation): (s.code, *([_ALSO[s.code]] if s.code in _ALSO else []))
        for s in statements().values()
        if s.records.get("csn", 0) >= FEWEST
    }
    return {
        "published": task("published", {acronym: (code_of[acronym],) for acronym in _lists("csn_published.toml")["classes"]}),
        "all": task("all", every, keep_unlabelled=True),
    }


@cache
def scored() -> Task:
    """Return the challenge's 26 scored diagnoses; pairs that it scores as one are one class, named by the commoner code."""
    groups: dict[str, list[str]] = {}
    for s in statements().values():
        if s.is_scored:
            groups.setdefault(SAME.get(s.code, s.code), []).append(s.code)
    return task("scored", {statements()[code].abbreviation: codes for code, codes in groups.items()}, keep_unlabelled=True)


@cache
def challenge_tasks(source: str) -> dict[str, Task]:
    """Return `scored` and `all` (every statement of at least 10 records) of a source that the challenge published."""
    every = {s.abbreviation: (s.code,) for s in statements().values() if s.records.get(source, 0) >= FEWEST}
    return {"scored": scored(), "all": task("all", every, keep_unlabelled=True)}
