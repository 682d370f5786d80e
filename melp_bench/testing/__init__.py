"""Conformance: what every component is asked, first-party or a stranger's.

from melp_bench.testing import check_component

def test_it_conforms() -> None:
    verdicts = check_component("ECG encoder", Entry(name="mine", build=Mine, summary="..."))
    assert all(v.ok for v in verdicts), verdicts
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from melp_bench.errors import UnknownName
from melp_bench.registry import Entry
from melp_bench.testing.datasets import DATASET_CHECKS, dataset_subject
from melp_bench.testing.ecg import ECG_CHECKS, ecg_subject
from melp_bench.testing.evaluations import EVALUATION_CHECKS, evaluation_trial
from melp_bench.testing.heads import HEADS_CHECKS, heads_subject
from melp_bench.testing.objectives import OBJECTIVE_CHECKS, objective_subject
from melp_bench.testing.text import TEXT_CHECKS, text_subject
from melp_bench.testing.verdict import Verdict, examine

__all__ = ["Verdict", "check_component"]

BUILDS = "it builds"


def check_component(
    kind: str, entry: Entry[Any], *, options: Mapping[str, Any] | None = None, source: Path | None = None
) -> list[Verdict]:
    """Return a verdict per property of the component, "it builds" first and alone if it does not.

    `kind` is "ECG encoder", "text encoder", "heads", "objective", "evaluation" or "dataset"; `source` is a dataset's folder of
    native files.

    Raises:
        UserError: an option is unknown or of the wrong type.
        UnknownName: there is no such kind.
    """
    resolved = entry.resolve(options or {})

    def build(*given: object) -> Any:
        return entry.build(*given, **resolved)

    if kind == "ECG encoder":
        return _judge(lambda: ecg_subject(build), ECG_CHECKS)
    if kind == "text encoder":
        return _judge(lambda: text_subject(build), TEXT_CHECKS)
    if kind == "heads":
        return _judge(lambda: heads_subject(build), HEADS_CHECKS)
    if kind == "objective":
        return _judge(lambda: objective_subject(build), OBJECTIVE_CHECKS)
    if kind == "evaluation":
        return _judge(lambda: evaluation_trial(build), EVALUATION_CHECKS)
    if kind == "dataset":
        return _judge(lambda: dataset_subject(build, source), DATASET_CHECKS)
    known = ", ".join(("ECG encoder", "text encoder", "heads", "objective", "evaluation", "dataset"))
    raise UnknownName(f"no kind of component named {kind!r}; known: {known}")


def _judge(make: Callable[[], Any], checks: Mapping[str, Callable[[Any], str]]) -> list[Verdict]:
    made: list[Any] = []

    def builds(_: None) -> str:
        made.append(make())
        return ""

    verdicts = examine(None, {BUILDS: builds})
    return verdicts + (examine(made[0], checks) if made else [])
