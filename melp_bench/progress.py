"""Who watches a run: the command line draws it, a library user may not care."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
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


@contextmanager
def stage_if_needed(listener: Listener, what: str, unit: str) -> Iterator[Advance]:
    """Give what begins the stage when it is first called, so that nothing is shown of work that was done before."""
    with ExitStack() as shown:
        begun: list[Advance] = []

        def advance(done: int, total: int, note: str) -> None:
            if not begun:
                begun.append(shown.enter_context(listener.stage(what, unit)))
            begun[0](done, total, note)

        yield advance
