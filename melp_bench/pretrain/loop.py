"""Pretraining: one loop for every method. The one place, with `ranks`, that knows of ranks.

Records are read in an order that is a function of (seed, step), and every step's randomness is seeded by (seed, step, rank),
so what must survive a kill is weights, optimiser and step; a resumed run ends in the same bits as an undisturbed one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from melp_bench.errors import UserError
from melp_bench.pretrain.distributed import gather_over, share, total_loss
from melp_bench.pretrain.optimisation import adamw, schedule
from melp_bench.pretrain.sampler import batch_positions
from melp_bench.pretrain.state import BEST, LAST, History, load_state, save_state
from melp_bench.recipe import Optimiser

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VERSION = 4
"""Raise with any change that can move a weight."""

log = logging.getLogger(__name__)
Report = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and a note (the loss and its terms)."""


class Source(Protocol):
    """What is learned from: positions of the two parts, and batches of them as the step module reads them.

    `bounds` (S + 1,) says where in `train` what lies together (a shard) begins, and the end.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def batch(self, positions: NDArray[np.int64], device: torch.device) -> Any:
        """Return what the step module is given for `positions`."""


class NonFiniteLoss(UserError):
    """A term of the loss became NaN or infinite."""


@dataclass(frozen=True)
class Budget:
    """What every method gets alike; `batch_size` is of all ranks together."""

    steps: int
    batch_size: int
    seed: int
    validate_every: int


@dataclass
class Trained:
    """What a run leaves: the step with the lowest validation loss, and the curves."""

    best_step: int = 0
    best_loss: float = math.inf
    history: History = field(default_factory=dict)


def pretrain(
    step_module: nn.Module,
    weights: Mapping[str, float],
    source: Source,
    *,
    budget: Budget,
    optimiser: Optimiser,
    fabric: Fabric,
    folder: Path,
    report: Report = lambda done, total, note: None,
) -> Trained:
    """Train `step_module` in place, and leave it with the weights of its best validation step.

    It is called as a `Step` is, with a batch, a generator and a gather, and returns each term as (mean, count).
    `weights` weigh the terms. The state is written to `folder` at every validation; a state found there is gone on from.

    Raises:
        NonFiniteLoss: names the step and the term.
        UserError: there are fewer training records than one batch holds, or the state in `folder` is damaged.
    """
    per_rank = share(budget.batch_size, fabric.world_size, len(source.train))
    module, optimizer = fabric.setup(step_module, adamw(step_module, optimiser))
    rate = schedule(optimizer, optimiser, budget.steps)
    gather, generator = gather_over(fabric), torch.Generator(device=fabric.device)
    done, trained = _resume(folder, step_module, optimizer, fabric)
    module.train()
    report(done, budget.steps, "")
    for step in range(done, budget.steps):
        positions = batch_positions(
            source.train,
            step=step,
            batch_size=per_rank,
            seed=budget.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            bounds=source.bounds,
        )
        _seed(generator, budget.seed, step, fabric.global_rank)
        rate.step_update(step)
        terms = module(source.batch(positions, fabric.device), generator, gather)
        total, values = total_loss(terms, weights, fabric)
        _check_finite(values, step + 1, "training")
        optimizer.zero_grad()
        fabric.backward(total)
        fabric.clip_gradients(module, optimizer, max_norm=optimiser.clip_norm, error_if_nonfinite=False)
        optimizer.step()
        report(step + 1, budget.steps, _note(values, weights))
        if (step + 1) % budget.validate_every == 0 or step + 1 == budget.steps:
            found = validation_loss(step_module, weights, source, budget=budget, fabric=fabric)
            _check_finite(found, step + 1, "validation")
            if _record(trained, step + 1, values, found, weights):
                save_state(folder, BEST, step=step + 1, module=step_module, fabric=fabric)
            save_state(
                folder, LAST, step=step + 1, module=step_module, fabric=fabric, optimizer=optimizer, trained=vars(trained)
            )
    load_state(folder, BEST, module=step_module, fabric=fabric)
    return trained


def _resume(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, fabric: Fabric) -> tuple[int, Trained]:
    """Return the step to begin at and what is known so far; a state that is there is loaded, the best one tried, too."""
    if not (folder / f"{LAST}.pt").is_file():
        return 0, Trained()
    load_state(folder, BEST, module=module, fabric=fabric)
    state = load_state(folder, LAST, module=module, fabric=fabric, optimizer=optimizer)
    log.info("resuming after step %d", state["step"])
    return state["step"], Trained(**state["trained"])


def _seed(generator: torch.Generator, seed: int, step: int, rank: int) -> None:
    """Make all that is random in this step a function of (seed, step, rank)."""
    drawn = int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    torch.manual_seed(drawn)
    generator.manual_seed(drawn)


def _check_finite(values: Mapping[str, float], step: int, part: str) -> None:
    broken = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise NonFiniteLoss(
            f"{part} loss of step {step}: {', '.join(broken)}; pretraining stopped, its state of the last validation is kept. "
            "Lower the learning rate (--set optimiser.learning_rate=...) or warm up longer"
        )


def _note(values: Mapping[str, float], weights: Mapping[str, float]) -> str:
    terms = " ".join(f"{name} {value:.2f}" for name, value in values.items())
    return f"loss {_weighted(values, weights):.2f} ({terms})"


def _weighted(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    return sum(weights[name] * value for name, value in values.items())


def _record(
    trained: Trained, step: int, training: Mapping[str, float], found: Mapping[str, float], weights: Mapping[str, float]
) -> bool:
    """Add a point to the curves, and return whether the validation loss is the lowest so far."""
    total = _weighted(found, weights)
    point = {"step": float(step), **{f"train_{name}": value for name, value in training.items()}, **found, "total": total}
    for name, value in point.items():
        trained.history.setdefault(name, []).append(value)
    if total < trained.best_loss:
        trained.best_step, trained.best_loss = step, total
        return True
    return False


@torch.no_grad()
def validation_loss(
    module: nn.Module, weights: Mapping[str, float], source: Source, *, budget: Budget, fabric: Fabric
) -> dict[str, float]:
    """Return each term's mean over whole batches of the validation records, in eval mode, with the same views every time.

    Raises:
        UserError: there are fewer validation records than ranks.
    """
    positions, ranks = source.validation, fabric.world_size
    whole = min(budget.batch_size, len(positions)) // ranks * ranks
    if not whole:
        raise UserError(f"{len(positions)} validation records are fewer than {ranks} ranks; use fewer ranks")
    generator, gather = torch.Generator(device=fabric.device), gather_over(fabric)
    batches = len(positions) // whole
    sums = dict.fromkeys(weights, 0.0)
    module.eval()
    for index in range(batches):
        mine = positions[index * whole : (index + 1) * whole][fabric.global_rank :: ranks]
        _seed(generator, budget.seed, index, fabric.global_rank)
        with fabric.autocast():
            terms = module(source.batch(mine, fabric.device), generator, gather)
        for name, value in total_loss(terms, weights, fabric)[1].items():
            sums[name] += value / batches
    module.train()
    return sums
