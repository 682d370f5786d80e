"""Loggers by name: from the words of a command to what listens to a pretraining."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from melp_bench.errors import UserError
from melp_bench.plugins import Catalogue
from melp_bench.progress import LoggedRun, OnStep, RunLogger, StepValues
from melp_bench.runs.components import build_component

Loggers = Mapping[str, RunLogger]
"""Built loggers by the name of their component."""

log = logging.getLogger(__name__)


def build_loggers(words: Sequence[str], catalogue: Catalogue) -> dict[str, RunLogger]:
    """Return the loggers that are named as NAME or NAME,OPTION=VALUE,..., ready to begin.

    Raises:
        UnknownName: there is no such logger.
        UserError: one is named twice, an option is wrong, or a package that it needs is not installed.
    """
    found: dict[str, RunLogger] = {}
    for word in words:
        name, *given = word.split(",")
        options = dict(part.partition("=")[::2] for part in given)
        if name in found or not all("=" in part for part in given):
            raise UserError(f"--log {word!r} is not understood; wanted each logger once, as NAME or NAME,OPTION=VALUE")
        found[name] = build_component(catalogue.loggers[name], options)
        if (missing := found[name].missing()) is not None:
            raise UserError(f"logger {name!r} cannot be used here: {missing}")
    return found


@contextmanager
def logged(loggers: Loggers, run: LoggedRun, say: Callable[[str], None]) -> Iterator[list[OnStep]]:
    """Begin all loggers, give what hands them values, and end them; one that fails on its way is told once, and left out.

    Raises:
        UserError: one cannot begin.
    """
    begun: list[RunLogger] = []
    try:
        for name, logger in loggers.items():
            _begin(name, logger, run)
            begun.append(logger)
        yield [_careful(name, logger, say) for name, logger in loggers.items()]
    finally:
        for logger in begun:
            with suppress(Exception):  # a stranger's code, and nothing depends on it any more
                logger.end()


def _begin(name: str, logger: RunLogger, run: LoggedRun) -> None:
    try:
        logger.begin(run)
    except UserError:
        raise
    except Exception as error:  # a stranger's code, before any work
        raise UserError(f"logger {name!r} cannot begin: {type(error).__name__}: {error}; leave out --log {name}") from error


def _careful(name: str, logger: RunLogger, say: Callable[[str], None]) -> OnStep:
    """Return what hands values to a logger until it fails."""
    failed = False

    def hand(values: StepValues) -> None:
        nonlocal failed
        if failed:
            return
        try:
            logger.log(values)
        except Exception as error:  # a full disk, a stranger's mistake: no reason to lose a pretraining
            failed = True
            log.info("logger %r failed", name, exc_info=True)
            say(f"logger {name!r} failed at step {values.step} and is left out: {type(error).__name__}: {error}")

    return hand
