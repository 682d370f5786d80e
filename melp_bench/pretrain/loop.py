"""Pretraining: one loop for every stage of every method. The one place, with `distributed`, that knows of ranks.

Records are read in an order that is a function of (seed, step), and every step's randomness is seeded by (seed, step, rank),
so what must survive a kill is weights, optimiser and step; a resumed run ends in the same bits as an undisturbed one.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from melp_bench.pretrain.distributed import average_gradients, gather_over, share, total_loss
from melp_bench.pretrain.engine import PLAIN, Engine
from melp_bench.pretrain.gradient_cache import Parts, cached_loss, norm_by_batch
from melp_bench.pretrain.health import UNSEEN, Health, watched_validation
from melp_bench.pretrain.layers import compiled, recomputing
from melp_bench.pretrain.optimisation import make_optimizer, schedule
from melp_bench.pretrain.prefetch import prefetched
from melp_bench.pretrain.randomness import seed_step
from melp_bench.pretrain.sampler import batch_positions
from melp_bench.pretrain.sharding import cut_gradient, gradient_norm, whole
from melp_bench.pretrain.state import BEST, LAST, History, has_state, load_last, load_state, save_state
from melp_bench.pretrain.step import Batch, Step
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
    engine: Engine = PLAIN,
    say: Callable[[str], None] = log.warning,
) -> Trained:
    """Train `step_module` in place, and leave it with the weights that its objectives ask to keep.

    Those are the weights of the lowest validation loss, or the last ones where an objective says so. `weights` weigh the terms.
    The state is written to `folder` at every validation; a state found there is gone on from. What there is to `say` is a line.

    Raises:
        NonFiniteLoss: names the step and the term, or the gradient.
        UserError: there are fewer training records than one batch holds, or the state in `folder` is damaged or not written.
    """
    work = copy.deepcopy(step_module) if engine.sharded else step_module  # what was sharded is not made whole in place
    with _working(work, engine, say):
        trained = _train(
            work, weights, source, budget=budget, optimiser=optimiser, fabric=fabric, folder=folder, stage=stage,
            tell=_teller(listeners), engine=engine, say=say,
        )  # fmt: skip
    load_state(folder, BEST, stage=stage, module=step_module, fabric=fabric)
    return trained


def _train(
    step_module: Step,
    weights: Mapping[str, float],
    source: Source,
    *,
    budget: Budget,
    optimiser: Optimiser,
    fabric: Fabric,
    folder: Path,
    stage: str,
    tell: OnStep,
    engine: Engine,
    say: Callable[[str], None],
) -> Trained:
    """Make all steps that are left, and return the curves; the state is in `folder`, and so are the weights to keep."""
    objectives = cast("list[Objective]", list(step_module.objectives.values()))
    last = any(objective.keep == "last" for objective in objectives)
    per_rank = share(budget.batch_size, fabric.world_size, len(source.train))
    module = fabric.setup_module(step_module)
    optimizer = cast("torch.optim.Optimizer", fabric.setup_optimizers(make_optimizer(step_module, optimiser)))
    rate, advance = (
        schedule(optimizer, optimiser, budget.steps),
        _advance(module, step_module, optimizer, optimiser, fabric, engine),
    )
    done, trained = _resume(folder, stage, step_module, optimizer, fabric, say)
    measure = partial(
        watched_validation, step_module, weights, source, budget=budget, fabric=fabric, micro_batch=engine.micro_batch
    )
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
        step_module.follow()
        for objective in objectives:
            objective.after_step((step + 1) / budget.steps)
        seconds = max(time.perf_counter() - begun, 1e-9)
        told = StepValues(stage, "train", step + 1, budget.steps, values, _weighted(values, weights))
        told = replace(told, learning_rate=max(float(group["lr"]) for group in optimizer.param_groups), gradient_norm=norm)
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


Made = tuple[torch.Tensor, dict[str, float], Callable[[], None]]
"""The loss to go backward on, each of its terms, and what finishes the backward pass."""


def _advance(
    module: nn.Module, work: Step, optimizer: torch.optim.Optimizer, optimiser: Optimiser, fabric: Fabric, engine: Engine
) -> Callable[[Any, int, Budget, Mapping[str, float]], tuple[dict[str, float], float]]:
    """Return the function that makes one step, and returns each term of its loss and the norm of its gradient."""
    gather, generator = gather_over(fabric), torch.Generator(device=fabric.device)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def made(batch: Batch, step: int, budget: Budget, weights: Mapping[str, float]) -> Made:
        seed = partial(seed_step, generator, budget.seed, step, fabric.global_rank)
        seed()
        if engine.micro_batch and len(batch) > engine.micro_batch:
            parts = Parts(batch, engine.micro_batch, seed, generator, gather, step / budget.steps)
            return cached_loss(work, parts, weights, fabric)
        terms = module(batch, generator, gather, step / budget.steps)
        return *total_loss(terms, weights, fabric), partial(average_gradients, work, fabric) if engine.sharded else _nothing

    def advance(batch: Batch, step: int, budget: Budget, weights: Mapping[str, float]) -> tuple[dict[str, float], float]:
        total, values, finish = made(batch, step, budget, weights)
        _check_finite(values, step + 1, "training loss")
        optimizer.zero_grad()
        fabric.backward(total)
        finish()
        norm = gradient_norm(parameters)
        length = _check_gradient(norm, step + 1, work)
        if optimiser.clip_norm:
            cut_gradient(parameters, optimiser.clip_norm, norm)
        optimizer.step()
        return values, length

    return advance


def _nothing() -> None:
    """Do nothing."""


@contextmanager
def _working(work: Step, engine: Engine, say: Callable[[str], None]) -> Iterator[None]:
    """Let the encoders be computed as the engine says, for as long as this lasts."""
    if engine.micro_batch and (name := norm_by_batch(work)) is not None:
        say(f"{name!r} normalises by batch: with micro_batch={engine.micro_batch} by so many records, not by a batch's")
    with ExitStack() as stack:
        if engine.recompute:
            stack.enter_context(recomputing(work.model))
        if engine.compile:
            stack.enter_context(compiled(work.model, engine.compile))
        yield


def _resume(
    folder: Path, stage: str, module: Step, optimizer: torch.optim.Optimizer, fabric: Fabric, say: Callable[[str], None]
) -> tuple[int, Trained]:
    """Return the step to begin at and what is known so far; a state that is there is loaded, the best one tried, too."""
    if not has_state(folder):
        return 0, Trained()
    load_state(folder, BEST, stage=stage, module=module, fabric=fabric)
    state = load_last(folder, stage=stage, module=module, fabric=fabric, optimizer=optimizer, say=say)
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


def _check_gradient(norm: torch.Tensor, step: int, module: nn.Module) -> float:
    """Return the gradient's norm, which is finite."""
    length = float(norm)
    if not math.isfinite(length):
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        broken = [name for name, gradient in gradients.items() if not bool(whole(gradient).isfinite().all())]
        where = f" at {broken[0]!r} and in {len(broken)} of {len(gradients)} parameters" if broken else " as a whole"
        raise NonFiniteLoss(f"the gradient of step {step} is {length}{where}, and its loss is finite; {ADVICE}")
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
