"""What is asked of every logger."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from melp_bench.errors import NotApplicable
from melp_bench.progress import LoggedRun, RunLogger, StepValues
from melp_bench.testing.verdict import demand

TERMS = {"rhythm": 1.5, "masked-words": 0.25}
BEGUN = StepValues("alignment", "begin", 0, 4, {}, 0.0)
TRAINED = StepValues("alignment", "train", 1, 4, TERMS, 1.75, 1e-3, 0.5, 48.0, 0.1)
VALIDATED = StepValues("alignment", "validation", 2, 4, TERMS, 1.75, numbers={"ecg rank": 7.5}, signs=("a sign",))


def logger_subject(build: Callable[[], RunLogger]) -> RunLogger:
    """Return the logger to ask."""
    logger = build()
    if not isinstance(logger, RunLogger):
        raise TypeError(f"build returned {type(logger).__name__!r}; wanted a melp_bench.RunLogger")
    return logger


def _log(logger: RunLogger, *values: StepValues) -> list[str]:
    """Return the names of what stands in a run's folder after these values were logged."""
    if (missing := logger.missing()) is not None:
        raise NotApplicable(missing)
    with tempfile.TemporaryDirectory(prefix="melp-bench-") as folder:
        logger.begin(LoggedRun("a method", Path(folder), {"recipe": {"name": "a method"}}))
        for one in values:
            logger.log(one)
        logger.end()
        return sorted(path.name for path in Path(folder).iterdir())


def _whole(logger: RunLogger) -> str:
    made = _log(logger, BEGUN, TRAINED, VALIDATED)
    demand(len(made) <= 1, f"it writes {made} into the checkpoint's folder; wanted a folder of its own")
    return f"writes {made[0]}" if made else "writes nothing into the checkpoint's folder"


def _again(logger: RunLogger) -> str:
    _log(logger, BEGUN, TRAINED)
    _log(logger, BEGUN, TRAINED)
    return ""


def _stopped(logger: RunLogger) -> str:
    _log(logger)
    _log(logger, BEGUN)
    _log(logger, StepValues("alignment", "begin", 2, 4, {}, 0.0), VALIDATED)
    return ""


LOGGER_CHECKS: dict[str, Callable[[RunLogger], str]] = {
    "it logs a pretraining": _whole,
    "it logs one pretraining after another": _again,
    "it bears a pretraining that stops before its first step, and one that goes on": _stopped,
}
