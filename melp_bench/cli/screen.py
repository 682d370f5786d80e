"""The one screen of the command line: progress with rate and time left, and plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from melp_bench.progress import Advance

WIDE = 110
"""From this many columns on there is room for the loss and its terms beside a bar."""


class RateColumn(ProgressColumn):
    """Things done per second, of those done in this run."""

    def render(self, task: Task) -> Text:
        """Return the rate of `task` in its own unit."""
        done = task.completed - task.fields["begun_at"]
        seconds = task.elapsed if task.finished_time is None else task.finished_time  # a bar stays when its stage is over
        speed = done / seconds if seconds and done > 0 else None
        if speed is None:
            return Text("")
        shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
        return Text(f"{shown} {task.fields['unit']}/s", style="progress.data.speed")


class Screen:
    """A listener that draws on the terminal; a stage within a stage is a bar below it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Progress | None = None

    @contextmanager
    def stage(self, what: str, unit: str) -> Iterator[Advance]:
        """Draw a bar for a stage; what it gives is called as the stage advances."""
        if self._live is not None:
            yield _bar(self._live, what, unit)
            return
        columns: tuple[ProgressColumn, ...] = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
        )
        if self.console.width >= WIDE:
            columns += (TextColumn("{task.fields[note]}", markup=False, style="dim"),)
        with Progress(*columns, console=self.console, transient=False) as progress:
            self._live = progress
            try:
                yield _bar(progress, what, unit)
            except Exception:
                for task in progress.tasks:  # what never began leaves no bar above the error
                    progress.update(task.id, visible=task.total is not None)
                raise
            finally:
                self._live = None

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _bar(progress: Progress, what: str, unit: str) -> Advance:
    """Add a bar, and return what moves it; work that an earlier run has done does not count as speed."""
    bar = progress.add_task(f"{what:<20}", total=None, unit=unit, note="", begun_at=0)
    begun = False

    def advance(done: int, total: int, note: str) -> None:
        nonlocal begun
        if not begun:
            begun = True
            progress.update(bar, begun_at=done)
        progress.update(bar, completed=done, total=total, note=note)

    return advance
