"""Who watches a run: the command line draws it, a library user may not care."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[[int, int, str], None]
"""Called with done, total and a note."""


class Listener(Protocol):
    """What a run tells while it works."""

    def stage(self, what: str, unit: str) -> AbstractContextManager[Advance]:
        """Begin a stage; what it gives is called as the stage advances, counted in `unit`."""

    def say(self, text: str) -> None:
        """Tell one line."""


class Silence:
    """A listener that tells nobody."""

    def stage(self, what: str, unit: str) -> AbstractContextManager[Advance]:
        """Begin a stage nobody watches."""
        return nullcontext(lambda done, total, note: None)

    def say(self, text: str) -> None:
        """Tell nobody."""
