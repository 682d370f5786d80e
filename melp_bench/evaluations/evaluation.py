"""The contract of an evaluation: its rows, its compatibility, and how one row is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from melp_bench.evaluations.context import Context, ModelTraits
    from melp_bench.predictions import Predictions


@dataclass(frozen=True)
class Measurement:
    """One row to be, of one evaluation and any model.

    Attributes:
        task: the name of the row's task: "synthetic/super", or "a/x->b/y".
        tasks: every "alias/task" it reads; the last one's records are scored.
        setting: what tells rows of one evaluation and task apart: "1 %"; often "".
        options: plain JSON; all options that can move this row and no others, for its key.
    """

    task: str
    tasks: tuple[str, ...]
    setting: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


class Evaluation(ABC):
    """A way to score a model on tasks; options are the keyword-only arguments of `build`.

    Attributes:
        version: raise it with any change that can move a score.
        label: what boards call it: "linear probe".
        metrics: names of the metrics that are measured where the protocol names no others; the first is primary.
        reads_prompts: True if the prompts of a task can move a score, so that they belong to the row's key.
    """

    version: ClassVar[int]
    label: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    reads_prompts: bool = False

    def expand(self, tasks: Sequence[str]) -> Iterable[Measurement]:
        """Return the rows for `tasks`, in order; by default one per task.

        Raises:
            UserError: an option or a task does not fit this evaluation.
        """
        return [Measurement(task, (task,)) for task in tasks]

    def fits(self, model: ModelTraits) -> str | None:
        """Return why a model cannot be scored so ("needs a text encoder"), known before any work; None if it can."""
        return None

    @abstractmethod
    def run(self, context: Context, measurement: Measurement) -> Predictions:
        """Return the predictions of one row.

        Raises:
            NotApplicable: the pair of model and task cannot be scored; the reason is for the row.
        """
