"""A pretraining of fourteen steps that can be killed after any of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from tiny_method import OPTIMISER, make_source, make_step

from melp_bench.pretrain.engine import PLAIN, Engine
from melp_bench.pretrain.loop import Trained, pretrain
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.validation import Budget
from melp_bench.progress import StepValues
from melp_bench.recipe import Optimiser
from melp_bench.runs.training import make_fabric
from melp_bench.store import Store

BUDGET = Budget(steps=14, batch_size=8, seed=1, validate_every=3)
WEIGHTS = {"rhythm": 1.0, "beat": 0.2, "token": 2.0}


class Killed(BaseException):
    """What no handler of the loop may catch."""


def train(
    store: Store,
    folder: Path,
    *,
    die_after: int = 0,
    precision: str = "32",
    optimiser: Optimiser = OPTIMISER,
    engine: Engine = PLAIN,
    said: Callable[[str], None] = lambda line: None,
) -> tuple[Step, Trained]:
    """Pretrain a new model; with `die_after`, die once that step is done."""
    step = make_step(ema=optimiser.ema)

    def die(values: StepValues) -> None:
        if die_after and values.step == die_after and values.part == "train":
            raise Killed

    trained = pretrain(
        step,
        WEIGHTS,
        make_source(store, step),
        budget=BUDGET,
        optimiser=optimiser,
        fabric=make_fabric("cpu", precision),
        folder=folder,
        listeners=[die],
        engine=engine,
        say=said,
    )
    return step, trained


def assert_same(one: tuple[Step, Trained], two: tuple[Step, Trained]) -> None:
    """Check that two trainings ended in the same bits and with the same curves."""
    assert one[1] == two[1]
    mine, other = one[0].state_dict(), two[0].state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
