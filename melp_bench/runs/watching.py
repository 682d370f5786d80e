"""Who watches a pretraining beside its bar and its log of JSON lines: loggers of plugins, and a line when it collapses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from melp_bench.progress import Listener, LoggedRun, OnStep, StepValues
from melp_bench.protocol import Pretrain
from melp_bench.runs.candidates import Candidate
from melp_bench.runs.loggers import Loggers, logged

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@contextmanager
def watchers(
    candidate: Candidate, budget: Pretrain, loggers: Loggers, fabric: Fabric, listener: Listener
) -> Iterator[list[OnStep]]:
    """Give what is called with the values of every step of a candidate; only the first rank watches.

    Raises:
        UserError: a logger cannot begin.
    """
    if fabric.global_rank:
        yield []
        return
    settings = {"recipe": candidate.recipe.model_dump(mode="json"), "budget": budget.model_dump(mode="json")}
    with logged(loggers, LoggedRun(candidate.told, candidate.folder, settings), listener.say) as handed:
        yield [*handed, collapse_told(candidate.told, listener.say)]


def collapse_told(label: str, say: Callable[[str], None]) -> OnStep:
    """Return what tells signs of collapse: when a stage first shows them, when they change in kind, and when they are gone."""
    told: dict[str, int] = {}

    def tell(values: StepValues) -> None:
        if values.part != "validation" or len(values.signs) == told.get(values.stage, 0):
            return
        told[values.stage] = len(values.signs)
        where = f"{label} {values.stage}  step {values.step}"
        say(f"collapse {where}: {'; '.join(values.signs)}" if values.signs else f"collapse {where}: no sign of it any more")

    return tell
