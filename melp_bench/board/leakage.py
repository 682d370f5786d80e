"""Has a model seen what it is scored on? By the names of its pretraining corpora, and by what a run found in them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

from melp_bench.results import ResultRecord


def corpora_of(record: ResultRecord) -> list[str]:
    """Return the names of the model's pretraining corpora, as its facts give them."""
    named = record.facts.get("corpora", [])
    return [str(name) for name in ([named] if isinstance(named, str) else named or [])]


def datasets_of(task: str) -> list[str]:
    """Return the datasets that a task (or a pair of them, "a/x->b/y") reads."""
    return [part.strip().partition("/")[0] for part in re.split(r"->|→", task)]


def leaks(record: ResultRecord) -> list[str]:
    """Return those of the task's datasets that the model has seen, or may have seen, test records of.

    That is those that its pretraining corpora name, alone or inside a collection: names are compared whole, up to case and
    punctuation; "ptb" is not "ptb-xl". The fingerprint of the pretraining data, where the facts hold it, finds the dataset
    under any name. Where a run has looked for the test records in the corpus it was given, what it found replaces this
    corpus's name.
    """
    check = _check(record)
    if check is None:
        return _named(record, corpora_of(record), with_data=True)
    declared = _unchecked(record, check)
    found = datasets_of(record.task)[-1:] if check["found"] else []
    return list(dict.fromkeys([*_named(record, declared, with_data=False), *found]))


def overlap_text(record: ResultRecord) -> str:
    """Return in words whether the model's pretraining holds test records of the row, and how that is known."""
    check = _check(record)
    if check is None:
        if leaks(record):
            return "declared"
        return "not checked" if corpora_of(record) else "no pretraining data"
    found, records = check["found"], check["records"]
    text = f"{found:,} of {records:,} test records found in the pretraining corpus" if found else "none found (checked)"
    declared = _unchecked(record, check)
    if _named(record, declared, with_data=False):
        return f"declared; in {check['corpus']}: {text}"
    return f"{text}; declared only: {', '.join(declared)}" if declared else text


def _check(record: ResultRecord) -> dict[str, Any] | None:
    """Return what a run found of the row's test records in the pretraining corpus; None where it did not look."""
    check = record.facts.get("overlap")
    if not isinstance(check, dict) or check.get("checked") is not True:
        return None
    numbers = [check.get("found"), check.get("records")]
    return check if all(isinstance(n, int) and not isinstance(n, bool) for n in numbers) else None


def _unchecked(record: ResultRecord, check: dict[str, Any]) -> list[str]:
    """Return the model's pretraining corpora that a run has not looked into; what it has are "a" or "a + b"."""
    looked = {_bare(name) for name in str(check["corpus"]).split(" + ")}
    return [name for name in corpora_of(record) if _bare(name) not in looked]


def _named(record: ResultRecord, corpora: list[str], *, with_data: bool) -> list[str]:
    """Return the task's datasets that are among `corpora` or, with `with_data`, are the pretraining data themselves."""
    seen = seen_among(corpora, datasets_of(record.task))
    pretraining = record.facts.get("pretraining")
    data = pretraining.get("data") if with_data and isinstance(pretraining, dict) else None
    known = data if isinstance(data, list) else [data]
    return [
        dataset
        for dataset in dict.fromkeys(datasets_of(record.task))
        if dataset in seen or record.inputs.datasets.get(dataset, "") in known
    ]


def seen_among(corpora: Iterable[str], datasets: Iterable[str]) -> list[str]:
    """Return those of `datasets` that `corpora` name, alone or inside a collection; whole names, up to case and punctuation."""
    seen = {_bare(corpus) for corpus in corpora}
    seen |= {_bare(part) for corpus, parts in _contains().items() if _bare(corpus) in seen for part in parts}
    return [dataset for dataset in dict.fromkeys(datasets) if _bare(dataset) in seen]


def _bare(name: str) -> str:
    """Return the name up to a space, slash or bracket ("ptb-xl/train"), in lower case, letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", re.split(r"[\s/@(]", name.strip().lower())[0])


def collections() -> set[str]:
    """Return the names that a model's corpora may have and no dataset has: collections, and what nobody here reads."""
    return {*_corpora()["contains"], *_corpora()["elsewhere"]}


def _contains() -> dict[str, list[str]]:
    return {str(name): list(parts) for name, parts in _corpora()["contains"].items()}


@cache
def _corpora() -> dict[str, dict[str, Any]]:
    return tomllib.loads((resources.files("melp_bench.board") / "corpora.toml").read_text(encoding="utf-8"))
