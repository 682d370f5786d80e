"""Who watches a run: the command line draws it, a library user may not care."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

Advance = Callable[[int, int, str], None]
"""Called with done, total and a note."""


@dataclass(frozen=True)
class StepValues:
    """What is known of a training step when it is done, or of a validation.

    Attributes:
        stage: of the recipe.
        part: "begin" (once, of what an earlier run has done), "train" or "validation".
        step: how many of the `steps` are done.
        terms: each term of the loss, not weighted; a validation at step 0 says what training has to improve on.
        total: their weighted sum.
        learning_rate: of this step.
        gradient_norm: before it was clipped.
        records_per_second: of this step, over all ranks.
        waiting: the share of the step's time that was spent waiting for its records.
    """

    stage: str
    part: Literal["begin", "train", "validation"]
    step: int
    steps: int
    terms: Mapping[str, float]
    total: float
    learning_rate: float = 0.0
    gradient_norm: float = 0.0
    records_per_second: float = 0.0
    waiting: float = 0.0

    def plain(self) -> dict[str, Any]:
        """Return the values as plain JSON."""
        return asdict(self) | {"terms": dict(self.terms)}


OnStep = Callable[[StepValues], None]
"""Called with the values of every step and every validation, on the first rank as on all others."""


def drawn_by(advance: Advance) -> OnStep:
    """Return what moves a bar along a stage's steps, with its loss and terms beside it."""

    def show(values: StepValues) -> None:
        if values.part != "validation":
            terms = " ".join(f"{name} {value:.2f}" for name, value in values.terms.items())
            advance(values.step, values.steps, f"loss {values.total:.2f} ({terms})" if terms else "")

    return show


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
