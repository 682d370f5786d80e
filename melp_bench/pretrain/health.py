"""A validation as it is watched: the losses, and beside them what tells a collapse.

The embeddings are those that the validation makes anyway, seen on their way out of the encoders; where an objective calls parts
of an encoder by themselves (masked modelling), some validation records are embedded for it. No bit of a weight depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from melp_bench.components import Gauge, Objective
from melp_bench.features import Features
from melp_bench.model import Model
from melp_bench.pretrain.collapse import (
    SAMPLE,
    numbers_of,
    signs_in_embeddings,
    signs_in_gauges,
    signs_in_losses,
)
from melp_bench.pretrain.distributed import gather_over
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.validation import Budget, Source, validation_batch, validation_loss, validation_sample

if TYPE_CHECKING:
    from lightning_fabric import Fabric

EXTRA = 256
"""So many validation records are embedded where the validation itself has made no embedding, at most."""


@dataclass(frozen=True)
class Health:
    """What a validation shows of a model beside its losses: numbers for the log, and signs of collapse in words."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    signs: tuple[str, ...] = ()


UNSEEN = Health()
"""Of a validation that nobody watched."""


def watched_validation(
    module: Step, weights: Mapping[str, float], source: Source, *, budget: Budget, fabric: Fabric, micro_batch: int = 0
) -> tuple[dict[str, float], Callable[[int], Health]]:
    """Return each term's validation loss, and what gives the model's health, given how many steps are done.

    Raises:
        UserError: there are fewer validation records than ranks.
    """
    with _seen(module) as seen:
        found = validation_loss(module, weights, source, budget=budget, fabric=fabric, micro_batch=micro_batch)
    if not seen["ecg"] and module.reads_signals:
        seen["ecg"].append(_embedded(module, source, budget, fabric))
    gather = gather_over(fabric)
    numbers: dict[str, float] = {}
    for kind, parts in seen.items():
        if parts:
            mine = torch.cat(parts)[: -(-SAMPLE // fabric.world_size)]
            numbers |= numbers_of(kind, mine if gather is None else gather(mine))
    gauges = _gauges(module)
    numbers |= {name: gauge.value for name, gauge in gauges.items()}
    chance = _chance(module, validation_batch(source, budget, fabric.world_size), fabric.world_size)

    def health(step: int) -> Health:
        signs = signs_in_embeddings(numbers) + signs_in_losses(found, chance, done=step / budget.steps)
        return Health(numbers, (*signs, *signs_in_gauges(gauges)))

    return found, health


@contextmanager
def _seen(module: Step) -> Iterator[dict[str, list[Tensor]]]:
    """Give the embeddings that leave the encoders meanwhile, by kind: of each batch what each encoder makes first."""
    seen: dict[str, list[Tensor]] = {"ecg": [], "text": []}
    waiting: set[str] = set()

    def begin(_: nn.Module, __: Any) -> None:
        waiting.update(seen)

    def keep(kind: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, made: Any) -> None:
            if kind in waiting and isinstance(made, Features) and sum(map(len, seen[kind])) < SAMPLE:
                seen[kind].append(made.embedding.detach().float())
            waiting.discard(kind)

        return hook

    validated = module.model if module.average is None else cast("Model", module.average.module)
    towers = {"ecg": validated.encoder, "text": validated.text_encoder}
    hooks = [module.register_forward_pre_hook(begin)]
    hooks += [tower.register_forward_hook(keep(kind)) for kind, tower in towers.items() if tower is not None]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _embedded(module: Step, source: Source, budget: Budget, fabric: Fabric) -> Tensor:
    """Return embeddings (N, P) of this rank's share of some validation records, the same number on each rank."""
    positions, ranks = validation_sample(source.validation, budget.seed)[:EXTRA], fabric.world_size
    mine = positions[: len(positions) // ranks * ranks][fabric.global_rank :: ranks]
    module.eval()
    parts = []
    for begin in range(0, len(mine), budget.batch_size):
        batch = source.batch(mine[begin : begin + budget.batch_size], fabric.device)
        with fabric.autocast():
            parts.append(module.used.embed(batch.signal).float())
    module.train()
    return torch.cat(parts) if parts else torch.empty(0, 1, device=fabric.device)


def _gauges(module: Step) -> dict[str, Gauge]:
    """Return the gauges of all objectives, each after its term."""
    return {
        f"{term} {name}": gauge
        for term, objective in module.objectives.items()
        if isinstance(objective, Objective)
        for name, gauge in objective.gauges().items()
    }


def _chance(module: Step, batch: int, ranks: int) -> dict[str, float]:
    """Return by term the loss of chance in a validation batch of all ranks, where an objective has such a value."""
    found = {}
    for term, objective in module.objectives.items():
        if isinstance(objective, Objective):
            value = objective.chance(batch if objective.needs_global_batch else batch // ranks)
            if value is not None and value > 0:
                found[term] = value
    return found
