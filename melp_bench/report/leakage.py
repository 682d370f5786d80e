"""Does a model's pretraining data name the dataset it is scored on?"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources

from melp_bench.results import ResultRecord


def corpora_of(record: ResultRecord) -> list[str]:
    """Return the names of the model's pretraining corpora, as its facts give them."""
    named = record.facts.get("corpora", [])
    return [str(name) for name in ([named] if isinstance(named, str) else named or [])]


def datasets_of(task: str) -> list[str]:
    """Return the datasets that a task (or a transfer between two, "a/x->b/y") reads."""
    return [part.strip().partition("/")[0] for part in re.split(r"->|→", task)]


def leaks(record: ResultRecord) -> list[str]:
    """Return those of the task's datasets that the model's pretraining corpora name, alone or inside a collection.

    Names are compared whole, up to case and punctuation; "ptb" is not "ptb-xl". The fingerprint of the pretraining data,
    where the facts hold it, finds the dataset under any name.
    """
    seen = {_bare(corpus) for corpus in corpora_of(record)}
    seen |= {_bare(part) for corpus, parts in _contains().items() if _bare(corpus) in seen for part in parts}
    pretraining = record.facts.get("pretraining")
    data = pretraining.get("data") if isinstance(pretraining, dict) else None
    return [
        dataset
        for dataset in dict.fromkeys(datasets_of(record.task))
        if _bare(dataset) in seen or (data is not None and record.inputs.datasets.get(dataset) == data)
    ]


def _bare(name: str) -> str:
    """Return the name up to a space, slash or bracket ("ptb-xl/train"), in lower case, letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", re.split(r"[\s/@(]", name.strip().lower())[0])


@cache
def _contains() -> dict[str, list[str]]:
    text = (resources.files("melp_bench.report") / "corpora.toml").read_text(encoding="utf-8")
    return {str(name): list(parts) for name, parts in tomllib.loads(text)["contains"].items()}
