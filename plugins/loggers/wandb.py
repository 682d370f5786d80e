"""Weights & Biases, offline unless it is asked for: nothing leaves the machine by default.

Page: https://docs.wandb.ai. Needs the package `wandb`. Files lie in `wandb/` beside the checkpoint; `wandb sync` sends them.
A stage's curves are `STAGE/...`, over its own steps; a run that is gone on with is a run of its own, of the same group.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import melp_bench as mb
from melp_plugins.loggers.tensorboard import scalars

MODES = ("offline", "online", "disabled")


class WeightsAndBiases(mb.RunLogger):
    """One run per pretraining."""

    def __init__(self, *, project: str, mode: str) -> None:
        self.project = project
        self.mode: Any = mode  # one of MODES; the package wants them spelt as literals
        self._run: Any = None

    def missing(self) -> str | None:
        """Return that the package is not installed."""
        there = importlib.util.find_spec("wandb") is not None
        return None if there else "it needs wandb; pip install 'melp-bench[wandb]'"

    def begin(self, run: mb.LoggedRun) -> None:
        """Open a run."""
        import wandb

        self._run = wandb.init(
            project=self.project,
            name=run.name,
            group=run.folder.name,
            dir=str(run.folder),
            config=dict(run.settings),
            mode=self.mode,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )

    def log(self, values: mb.StepValues) -> None:
        """Write the values of a step or a validation, beside the step that they are of."""
        if values.part == "begin":
            self._run.define_metric(f"{values.stage}/*", step_metric=f"{values.stage}/done")
            return
        named = {f"{values.stage}/{name}": value for name, value in scalars(values).items()}
        self._run.log({**named, f"{values.stage}/done": values.step})

    def end(self) -> None:
        """Close the run."""
        if self._run is not None:
            self._run.finish()
        self._run = None


def weights_and_biases(*, project: str = "melp-bench", mode: str = "offline") -> WeightsAndBiases:
    """Return a logger to Weights & Biases; `mode` is offline, online or disabled.

    Raises:
        UserError: another mode.
    """
    if mode not in MODES:
        raise mb.UserError(f"mode is {mode!r}; wanted one of {', '.join(MODES)}")
    return WeightsAndBiases(project=project, mode=mode)


@mb.hookimpl
def melp_loggers() -> list[mb.Entry[mb.RunLogger]]:
    """Offer Weights & Biases."""
    return [
        mb.Entry(
            name="wandb",
            build=weights_and_biases,
            summary="curves for Weights & Biases, kept in the checkpoint's folder until they are sent",
            source="https://docs.wandb.ai",
            license="MIT",
        )
    ]
