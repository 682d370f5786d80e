"""The one screen of the command line: progress with rate and time left, and plain lines.

On a terminal a stage is a bar, and under the bars stands what is known of the last step, folded to the width. Elsewhere (a
cluster's log) it is a plain line at least every minute, whether or not something was done in it, and one when the stage is
over. With `--quiet` it is nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from melp_bench.cli.options import QUIET
from melp_bench.progress import SEPARATOR, Advance

WIDE = 70
"""From this many columns on there is room for a bar, the time gone and the rate beside what is done and the time left."""
SECONDS = 60.0
"""Between two plain lines of a stage, at most, where there is no terminal."""


class RateColumn(ProgressColumn):
    """Things done per second, of those done in this run."""

    def render(self, task: Task) -> Text:
        """Return the rate of `task` in its own unit."""
        done = task.completed - task.fields["begun_at"]
        seconds = task.elapsed if task.finished_time is None else task.finished_time  # a bar stays when its stage is over
        return Text(rate(done, seconds or 0.0, task.fields["unit"]), style="progress.data.speed")


def rate(done: float, seconds: float, unit: str) -> str:
    """Return how many of a unit are done in a second, in words; empty where that is not known."""
    if not seconds or done <= 0:
        return ""
    speed = done / seconds
    return f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.1f} {unit}/s"


class Bars(Progress):
    """Bars of the stages that are under way, and under them the note of the innermost one that has something to tell."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bars, then the note."""
        yield self.make_tasks_table(self.tasks)
        notes = [str(task.fields["note"]) for task in self.tasks if task.fields["note"] and not task.finished]
        if notes:
            yield Padding(Text(folded(notes[-1], self.console.width - 2), style="dim"), (0, 0, 0, 2))


def folded(note: str, width: int) -> str:
    """Return a note as lines of at most `width`, broken between its parts where they are short enough."""
    lines: list[str] = []
    for part in note.split(SEPARATOR):
        if lines and len(lines[-1]) + len(SEPARATOR) + len(part) <= width:
            lines[-1] += SEPARATOR + part
        else:
            lines.append(part)
    return "\n".join(lines)


class Screen:
    """A listener that draws on the terminal; a stage within a stage is a bar below it."""

    def __init__(
        self,
        console: Console,
        *,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = SECONDS,
        quiet: bool | None = None,
    ) -> None:
        self.console, self.clock, self.seconds = console, clock, seconds
        self.quiet = QUIET.get() if quiet is None else quiet
        self._live: Progress | None = None

    @contextmanager
    def stage(self, what: str, unit: str) -> Iterator[Advance]:
        """Draw a bar for a stage; what it gives is called as the stage advances."""
        if self.quiet:
            yield lambda done, total, note: None
            return
        if not self.console.is_terminal:
            with _lines(self, what, unit) as advance:
                yield advance
            return
        if self._live is not None:
            yield _bar(self._live, what, unit)
            return
        with Bars(*_columns(self.console.width), console=self.console, transient=False) as progress:
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


def _columns(width: int) -> tuple[ProgressColumn, ...]:
    """Return what there is room for in a line."""
    name, done = TextColumn("{task.description}", markup=False), MofNCompleteColumn()
    if width < WIDE:
        return name, done, TimeRemainingColumn(compact=True)
    return name, BarColumn(bar_width=12), done, RateColumn(), TimeElapsedColumn(), TimeRemainingColumn(compact=True)


def _bar(progress: Progress, what: str, unit: str) -> Advance:
    """Add a bar, and return what moves it; work that an earlier run has done does not count as speed."""
    bar: TaskID = progress.add_task(f"{what:<20}", total=None, unit=unit, note="", begun_at=0)
    begun = False

    def advance(done: int, total: int, note: str) -> None:
        nonlocal begun
        if not begun:
            begun = True
            progress.update(bar, begun_at=done)
        progress.update(bar, completed=done, total=total, note=note)

    return advance


@contextmanager
def _lines(screen: Screen, what: str, unit: str) -> Iterator[Advance]:
    """Give what tells how a stage advances in plain lines; a stage that never begins leaves none."""
    begun_at, begun, told, at = 0, 0.0, 0.0, (0, 0, "")
    started, over, one_at_a_time = False, threading.Event(), threading.Lock()

    def line(now: float) -> str:
        done, total, note = at
        return in_a_line(what, unit, done=done, total=total, begun_at=begun_at, seconds=now - begun, note=note)

    def advance(done: int, total: int, note: str) -> None:
        nonlocal begun_at, begun, told, at, started
        with one_at_a_time:
            now, at = screen.clock(), (done, total, note)
            if not started:
                begun_at, begun, told, started = done, now, now, True
            if now - told >= screen.seconds:
                told = now
                screen.say(line(now))

    def beat() -> None:
        nonlocal told
        while not over.wait(screen.seconds / 4):
            with one_at_a_time:
                now = screen.clock()
                if started and now - told >= screen.seconds:
                    told = now
                    screen.say(f"{line(now)}  ({_clock(now - begun)} gone)")

    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    try:
        yield advance
    finally:
        over.set()
        heart.join()
        if started:
            screen.say(line(screen.clock()))


def in_a_line(what: str, unit: str, *, done: int, total: int, begun_at: int, seconds: float, note: str) -> str:
    """Return how far a stage is: done of all, rate, time gone or left, and its note."""
    speed = rate(done - begun_at, seconds, unit)
    left = f"{_clock((total - done) * seconds / (done - begun_at))} left" if done - begun_at > 0 and done < total else ""
    parts = [f"{what:<20} {done:,}/{total:,}", speed, left or (_clock(seconds) if done >= total else ""), note]
    return "  ".join(part for part in parts if part)


def _clock(seconds: float) -> str:
    """Return seconds as 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
