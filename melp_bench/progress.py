"""Who watches a run: the command line draws it, a library user may not care."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Advance = Callable[[int, int, str], None]
"""Called with done, total and a note."""
SEPARATOR = " · "
"""Between the parts of a note."""


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
        numbers: of a validation: effective rank and variance of embeddings, gauges of objectives.
        signs: of a validation: what tells that the model collapsed, a sentence each.
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
    numbers: Mapping[str, float] = field(default_factory=dict)
    signs: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return the values as plain JSON; without numbers and signs where there are none, as of a step."""
        found = asdict(self) | {"terms": dict(self.terms), "numbers": dict(self.numbers), "signs": list(self.signs)}
        return {name: value for name, value in found.items() if value or name not in ("numbers", "signs")}


OnStep = Callable[[StepValues], None]
"""Called with the values of every step and every validation, on the first rank as on all others."""


@dataclass(frozen=True)
class LoggedRun:
    """What a logger is told of a pretraining before its first step.

    Attributes:
        name: of the method.
        folder: of its checkpoint; what a logger writes belongs in a folder of its own in it.
        settings: the recipe and the budget, as plain JSON.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]


class RunLogger(ABC):
    """Writes the values of a pretraining where its user looks at them; built as `build(**options)`.

    Called on the first rank alone, `begin`, `log` and `end` for each pretraining, one after the other. A run that was stopped
    begins again: its first values are of part "begin", and say after which step. Nothing that it does can move a weight.
    """

    def missing(self) -> str | None:
        """Return what it needs and is not here, with the command that brings it; None if it can be used."""
        return None

    @abstractmethod
    def begin(self, run: LoggedRun) -> None:
        """Begin to log a pretraining."""

    @abstractmethod
    def log(self, values: StepValues) -> None:
        """Write the values of a step or a validation."""

    @abstractmethod
    def end(self) -> None:
        """Finish what `begin` began, whether the pretraining ended well or not."""


def drawn_by(advance: Advance) -> OnStep:
    """Return what moves a bar along a stage's steps, with what is known of the last step and the last validation beside it."""
    validation = ""

    def show(values: StepValues) -> None:
        nonlocal validation
        if values.part == "validation":
            validation = f"validation {values.total:.3f}"
        else:
            advance(values.step, values.steps, SEPARATOR.join(part for part in (*in_words(values), validation) if part))

    return show


def in_words(values: StepValues) -> list[str]:
    """Return what is known of a training step, in few words each; nothing before the first step."""
    if not values.terms:
        return []
    terms = " ".join(f"{name} {value:.2f}" for name, value in values.terms.items())
    return [
        f"loss {values.total:.2f} ({terms})",
        f"{values.records_per_second:,.0f} rec/s",
        f"waiting {values.waiting:.0%}",
        f"rate {values.learning_rate:.1e}",
        f"gradient {values.gradient_norm:.2g}",
    ]


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
