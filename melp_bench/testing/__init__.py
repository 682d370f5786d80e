"""Conformance: what every component is asked, first-party or a stranger's.

from melp_bench.testing import check_component

def test_it_conforms() -> None:
    verdicts = check_component("ECG encoder", Entry(name="mine", build=Mine, summary="..."))
    assert all(v.ok for v in verdicts), verdicts
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melp_bench.errors import UnknownName
from melp_bench.registry import Entry
from melp_bench.testing.datasets import DATASET_CHECKS, dataset_subject
from melp_bench.testing.ecg import ECG_CHECKS, ecg_subject
from melp_bench.testing.evaluations import EVALUATION_CHECKS, evaluation_trial
from melp_bench.testing.heads import HEADS_CHECKS, heads_subject
from melp_bench.testing.loggers import LOGGER_CHECKS, logger_subject
from melp_bench.testing.metrics import METRIC_CHECKS, metric_subject
from melp_bench.testing.objective_subject import objective_subject
from melp_bench.testing.objectives import OBJECTIVE_CHECKS
from melp_bench.testing.text import TEXT_CHECKS, text_subject
from melp_bench.testing.verdict import Verdict, examine
from melp_bench.testing.views import VIEW_CHECKS, view_subject

__all__ = ["Verdict", "check_component"]

BUILDS = "it builds"


@dataclass(frozen=True)
class Asked:
    """A component as it is put to the test: how it is built, its name, and a dataset's folder of native files."""

    build: Callable[..., Any]
    name: str
    source: Path | None


KINDS: Mapping[str, tuple[Callable[[Asked], Any], Mapping[str, Callable[[Any], str]]]] = {
    "ECG encoder": (lambda asked: ecg_subject(asked.build), ECG_CHECKS),
    "text encoder": (lambda asked: text_subject(asked.build), TEXT_CHECKS),
    "heads": (lambda asked: heads_subject(asked.build), HEADS_CHECKS),
    "objective": (lambda asked: objective_subject(asked.build), OBJECTIVE_CHECKS),
    "view": (lambda asked: view_subject(asked.build), VIEW_CHECKS),
    "evaluation": (lambda asked: evaluation_trial(asked.build), EVALUATION_CHECKS),
    "metric": (lambda asked: metric_subject(asked.build, asked.name), METRIC_CHECKS),
    "dataset": (lambda asked: dataset_subject(asked.build, asked.source), DATASET_CHECKS),
    "logger": (lambda asked: logger_subject(asked.build), LOGGER_CHECKS),
}
"""Of every kind of component, what makes a subject of it, and the properties that are asked of the subject."""


def check_component(
    kind: str, entry: Entry[Any], *, options: Mapping[str, Any] | None = None, source: Path | None = None
) -> list[Verdict]:
    """Return a verdict per property of the component, "it builds" first and alone if it does not.

    `kind` is one of `KINDS`; `source` is the folder of a dataset's native files.

    Raises:
        UserError: an option is unknown or of the wrong type.
        UnknownName: there is no such kind.
    """
    if kind not in KINDS:
        raise UnknownName(f"no kind of component named {kind!r}; known: {', '.join(KINDS)}")
    resolved = entry.resolve(options or {})
    make, checks = KINDS[kind]

    def build(*given: object) -> Any:
        return entry.build(*given, **resolved)

    return _judge(lambda: make(Asked(build, entry.name, source)), checks)


def _judge(make: Callable[[], Any], checks: Mapping[str, Callable[[Any], str]]) -> list[Verdict]:
    made: list[Any] = []

    def builds(_: None) -> str:
        made.append(make())
        return ""

    verdicts = examine(None, {BUILDS: builds})
    return verdicts + (examine(made[0], checks) if made else [])
