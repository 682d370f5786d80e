"""Pretraining: one loop for every stage of every method. The one place, with `distributed`, that knows of ranks.

Records are read in an order that is a function of (seed, step), and every step's randomness is seeded by (seed, step, rank),
so what must survive a kill is weights, optimiser and step; a resumed run ends in the same bits as an undisturbed one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from melp_bench.components import Objective
from melp_bench.errors import UserError
from melp_bench.pretrain.distributed import gather_over, share, total_loss
from melp_bench.pretrain.health import UNSEEN, Health, watched_validation
from melp_bench.pretrain.optimisation import adamw, schedule
from melp_bench.pretrain.prefetch import prefetched
from melp_bench.pretrain.randomness import seed_step
from melp_bench.pretrain.sampler import batch_positions
from melp_bench.pretrain.state import BEST, LAST, History, load_state, save_state
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.validation import Budget, Source
from melp_bench.progress import OnStep, StepValues
from melp_bench.recipe import Optimiser

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VERSION = 5
"""Raise with any change that can move a weight."""

log = logging.getLogger(__name__)


class NonFiniteLoss(UserError):
    """A term of the loss, or its gradient, became NaN or infinite."""


@dataclass
class Trained:
    """What a stage leaves: the step whose weights were kept, its validation loss, and the curves.

    `before` is the validation of the weights that training began with, by term, where finite; `health` the curves of what is
    measured beside the losses, and `signs` what tells that the weights that were kept had collapsed.
    """

    best_step: int = 0
    best_loss: float = math.inf
    history: History = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    health: History = field(default_factory=dict)
    signs: list[str] = field(default_factory=list)


def pretrain(
    step_module: Step,
    weights: Mapping[str, float],
    source: Source,
    *,
    budget: Budget,
    optimiser: Optimiser,
    fabric: Fabric,
    folder: Path,
    stage: str = "pretrain",
    listeners: Sequence[OnStep] = (),
) -> Trained:
    """Train `step_module` in place, and leave it with the weights that its objectives ask to keep.

    Those are the weights of the lowest validation loss, or the last ones where an objective says so. `weights` weigh the terms.
    The state is written to `folder` at every validation; a state found there is gone on from.

    Raises:
        NonFiniteLoss: names the step and the term, or the gradient.
        UserError: there are fewer training records than one batch holds, or the state in `folder` is damaged.
    """
    tell = _teller(listeners)
    objectives = cast("list[Objective]", list(step_module.objectives.values()))
    last = any(objective.keep == "last" for objective in objectives)
    per_rank = share(budget.batch_size, fabric.world_size, len(source.train))
    module, optimizer = fabric.setup(step_module, adamw(step_module, optimiser))
    rate, advance = schedule(optimizer, optimiser, budget.steps), _advance(step_module, module, optimizer, optimiser, fabric)
    done, trained = _resume(folder, stage, step_module, optimizer, fabric)
    measure = partial(watched_validation, step_module, weights, source, budget=budget, fabric=fabric)
    keep = partial(save_state, folder, stage=stage, module=step_module, fabric=fabric)
    module.train()
    tell(StepValues(stage, "begin", done, budget.steps, {}, 0.0))
    if not done:
        found, health = measure()
        trained.before = {name: value for name, value in found.items() if math.isfinite(value)}
        told = StepValues(stage, "validation", 0, budget.steps, trained.before, _weighted(trained.before, weights))
        tell(replace(told, numbers=health(0).numbers))  # untrained weights have not collapsed
    order = _order(source, budget, per_rank, fabric)
    begun = time.perf_counter()
    read, ahead = partial(source.batch, device=fabric.device), fabric.device.type != "cpu"
    for step, batch, waited in prefetched(read, order, range(done, budget.steps), ahead=ahead):
        rate.step_update(step)
        values, norm = advance(batch, step, budget, weights)
        for objective in objectives:
            objective.after_step((step + 1) / budget.steps)
        seconds = max(time.perf_counter() - begun, 1e-9)
        told = StepValues(stage, "train", step + 1, budget.steps, values, _weighted(values, weights))
        told = replace(told, learning_rate=float(optimizer.param_groups[0]["lr"]), gradient_norm=norm)
        tell(replace(told, records_per_second=budget.batch_size / seconds, waiting=min(waited / seconds, 1.0)))
        if (step + 1) % budget.validate_every == 0 or step + 1 == budget.steps:
            found, health = measure()
            _check_finite(found, step + 1, "validation loss")
            state = health(step + 1)
            told = StepValues(stage, "validation", step + 1, budget.steps, found, _weighted(found, weights))
            tell(replace(told, numbers=state.numbers, signs=state.signs))
            if _record(trained, step + 1, values, found, weights, state, last=last):
                keep(BEST, step=step + 1)
            keep(LAST, step=step + 1, optimizer=optimizer, trained=vars(trained))
        begun = time.perf_counter()
    load_state(folder, BEST, stage=stage, module=step_module, fabric=fabric)
    return trained


def _teller(listeners: Sequence[OnStep]) -> OnStep:
    """Return what hands values to all who listen."""

    def tell(values: StepValues) -> None:
        for listener in listeners:
            listener(values)

    return tell


def _order(source: Source, budget: Budget, per_rank: int, fabric: Fabric) -> Callable[[int], NDArray[np.int64]]:
    """Return the function from a step to the positions that this rank reads in it."""
    rank, world_size = fabric.global_rank, fabric.world_size

    def positions(step: int) -> NDArray[np.int64]:
        return batch_positions(
            source.train,
            step=step,
            batch_size=per_rank,
            seed=budget.seed,
            rank=rank,
            world_size=world_size,
            bounds=source.bounds,
        )

    return positions


def _advance(
    step_module: Step, module: nn.Module, optimizer: torch.optim.Optimizer, optimiser: Optimiser, fabric: Fabric
) -> Callable[[Any, int, Budget, Mapping[str, float]], tuple[dict[str, float], float]]:
    """Return the function that makes one step, and returns each term of its loss and the norm of its gradient."""
    gather, generator = gather_over(fabric), torch.Generator(device=fabric.device)

    def advance(batch: Any, step: int, budget: Budget, weights: Mapping[str, float]) -> tuple[dict[str, float], float]:
        seed_step(generator, budget.seed, step, fabric.global_rank)
        terms = module(batch, generator, gather, step / budget.steps)
        total, values = total_loss(terms, weights, fabric)
        _check_finite(values, step + 1, "training loss")
        optimizer.zero_grad()
        fabric.backward(total)
        norm = fabric.clip_gradients(module, optimizer, max_norm=optimiser.clip_norm, error_if_nonfinite=False)
        length = _check_gradient(norm, step + 1)
        optimizer.step()
        return values, length

    return advance


def _resume(folder: Path, stage: str, module: Step, optimizer: torch.optim.Optimizer, fabric: Fabric) -> tuple[int, Trained]:
    """Return the step to begin at and what is known so far; a state that is there is loaded, the best one tried, too."""
    if not (folder / f"{LAST}.pt").is_file():
        return 0, Trained()
    load_state(folder, BEST, stage=stage, module=module, fabric=fabric)
    state = load_state(folder, LAST, stage=stage, module=module, fabric=fabric, optimizer=optimizer)
    log.info("resuming stage %s after step %d", stage, state["step"])
    return state["step"], Trained(**state["trained"])


ADVICE = (
    "pretraining stopped, its state of the last validation is kept. "
    "Lower the learning rate (--set optimiser.learning_rate=...) or warm up longer"
)


def _check_finite(values: Mapping[str, float], step: int, what: str) -> None:
    broken = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise NonFiniteLoss(f"{what} of step {step}: {', '.join(broken)}; {ADVICE}")


def _check_gradient(norm: torch.Tensor | None, step: int) -> float:
    """Return the gradient's norm, which is finite."""
    length = 0.0 if norm is None else float(norm)
    if not math.isfinite(length):
        raise NonFiniteLoss(f"the gradient of step {step} is {length}, and its loss is finite; {ADVICE}")
    return length


def _weighted(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    return sum(weights[name] * value for name, value in values.items())


def _record(
    trained: Trained,
    step: int,
    training: Mapping[str, float],
    found: Mapping[str, float],
    weights: Mapping[str, float],
    state: Health = UNSEEN,
    *,
    last: bool = False,
) -> bool:
    """Add a point to the curves, and return whether to keep these weights: the loss is the lowest so far, or the `last` are."""
    total = _weighted(found, weights)
    point = {"step": float(step), **{f"train_{name}": value for name, value in training.items()}, **found, "total": total}
    for name, value in point.items():
        trained.history.setdefault(name, []).append(value)
    for name, value in {"step": float(step), **state.numbers}.items():
        trained.health.setdefault(name, []).append(value)
    if last or total < trained.best_loss:
        trained.best_step, trained.best_loss, trained.signs = step, total, list(state.signs)
        return True
    return False
