"""TensorBoard: curves in the browser.

Page: https://www.tensorflow.org/tensorboard. Needs the package `tensorboard`; torch writes its files, into `tensorboard/`
beside the checkpoint: `tensorboard --logdir DIR`. A stage's curves are `STAGE/...`; a run that is gone on with hides what an
earlier one wrote of later steps.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import melp_bench as mb

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class TensorBoard(mb.RunLogger):
    """Scalars of every step and validation, a folder per stage, so that each is purged by its own steps."""

    def __init__(self, *, every: int) -> None:
        self.every = every
        self._run: mb.LoggedRun | None = None
        self._writer: SummaryWriter | None = None

    def missing(self) -> str | None:
        """Return that the package is not installed."""
        there = importlib.util.find_spec("tensorboard") is not None
        return None if there else "it needs tensorboard; pip install 'melp-bench[tensorboard]'"

    def begin(self, run: mb.LoggedRun) -> None:
        """Keep where the files go."""
        self._run = run

    def log(self, values: mb.StepValues) -> None:
        """Write the scalars of a step that is one of each `every`, and of every validation."""
        if values.part == "begin":
            self._open(values)
            return
        if self._writer is None or (values.part == "train" and values.step % self.every):
            return
        for name, value in scalars(values).items():
            self._writer.add_scalar(name, value, values.step)
        if values.part == "validation":
            self._writer.flush()

    def end(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _open(self, values: mb.StepValues) -> None:
        """Open the files of a stage; what is told of steps after the one it goes on from is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self.end()
        if self._run is not None:
            folder, purged = self._run.folder / FOLDER / values.stage, values.step + 1 if values.step else None
            self._writer = SummaryWriter(str(folder), purge_step=purged)


def scalars(values: mb.StepValues) -> dict[str, float]:
    """Return what is known of a step or a validation as numbers by name, losses under their own folder."""
    found = {f"{values.part}/{name}": value for name, value in {**values.terms, "total": values.total}.items()}
    found |= {f"watched/{name.replace(' ', '_')}": value for name, value in values.numbers.items()}
    if values.part == "train":
        found |= {
            "step/learning_rate": values.learning_rate,
            "step/gradient_norm": values.gradient_norm,
            "step/records_per_second": values.records_per_second,
            "step/waiting": values.waiting,
        }
    return found


def tensorboard(*, every: int = 1) -> TensorBoard:
    """Return a logger to TensorBoard that writes of one in `every` steps.

    Raises:
        UserError: `every` is less than 1.
    """
    if every < 1:
        raise mb.UserError(f"every is {every}; wanted at least 1")
    return TensorBoard(every=every)


@mb.hookimpl
def melp_loggers() -> list[mb.Entry[mb.RunLogger]]:
    """Offer TensorBoard."""
    return [
        mb.Entry(
            name="tensorboard",
            build=tensorboard,
            summary="curves for TensorBoard, in the checkpoint's folder",
            source="https://www.tensorflow.org/tensorboard",
            license="MIT",
        )
    ]
