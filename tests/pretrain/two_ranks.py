"""Run by torchrun (and, for comparison, in one process): terms and gradients of every objective, and a short pretraining."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from tiny_method import OPTIMISER, make_source, make_step
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.plugins import discover
from melp_bench.pretrain.distributed import gather_over, total_loss
from melp_bench.pretrain.loop import pretrain
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.validation import Budget
from melp_bench.pretrain.views import WHOLE, Views
from melp_bench.runs.training import make_fabric
from melp_bench.store import Store, open_store

DRAW_MASKS = ("cpc", "crt", "fused-masked-record", "fused-masked-words", "jepa", "mae", "masked", "masked-words")
"""Each rank draws masks of its own for its own records: no function of the batch alone, which two processes could share."""
SMALL = {"hidden": 16, "projected": 8}
OPTIONS: dict[str, dict[str, object]] = {
    **{name: {"global_batch": True} for name in ("beat", "gloria", "etm")},
    "token": {"layers": 1, "heads": 2},
    "barlow-twins": SMALL,
    "vicreg": SMALL,
    "moco-v3": SMALL,
    "simsiam": {"projected": 16, "bottleneck": 8},
    "dino": {"hidden": 16, "bottleneck": 8, "prototypes": 12, "multi_crop": True},
    "ts-tcc": {"ahead": 2, "width": 8, "layers": 1, "heads": 2},
    "astcl": {"projected": 16, "bottleneck": 8, "past": 8, "ahead": 2},
}
OF_ONE_ENCODER = ("heartlang-codebook", "heartlang-sentences")
"""They train HeartLang's encoder alone, which the tiny method has not: tests/plugins/test_heartlang_words.py cuts a batch."""
BATCH = 8


@dataclass(frozen=True)
class Shifted(mb.View):
    """A view that draws nothing, and so is the same on every rank."""

    samples: int

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal.roll(self.samples, -1) * (1 + 0.1 * self.samples)


def same_on_every_rank(objective: mb.Objective) -> Views:
    """Return the objective's views with that in place of what each rank would draw for itself; halves stay halves."""
    cuts = {name: [view for view in made if view.part != WHOLE] for name, made in objective.views().items()}
    return {name: parts or [Shifted(index)] for index, (name, parts) in enumerate(cuts.items())}


def comparable() -> dict[str, mb.Objective]:
    """Return the catalogue's objectives but those that draw masks, without dropout."""
    found: dict[str, mb.Objective] = {}
    for entry in discover().objectives:
        if entry.name in (*DRAW_MASKS, *OF_ONE_ENCODER):
            continue
        torch.manual_seed(1)
        objective = entry.build(make_step({}).model.sizes(2), **OPTIONS.get(entry.name, {}))
        for part in objective.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        found[entry.name] = objective
    return found


def terms_and_gradients(objective: mb.Objective, name: str, store: Store, fabric: Fabric) -> dict[str, Any]:
    step = make_step({name: objective}, dropout=0.0, views={name: same_on_every_rank(objective)})
    source = make_source(store, step)
    module, _ = fabric.setup(step, torch.optim.SGD(step.parameters(), lr=0.1))
    mine = source.train[:BATCH][fabric.global_rank :: fabric.world_size]
    terms = module(source.batch(mine, fabric.device), torch.Generator().manual_seed(5), gather_over(fabric))
    total, values = total_loss(terms, {name: 1.0}, fabric)
    fabric.backward(total)
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in step.named_parameters()}
    return {"values": values, "gradients": gradients}


def curves(step: Step, weights: dict[str, float], store: Store, folder: Path, fabric: Fabric) -> dict[str, Any]:
    """Return the curves of a short pretraining, and the weights that it leaves."""
    budget, source = Budget(steps=4, batch_size=BATCH, seed=3, validate_every=2), make_source(store, step)
    trained = pretrain(step, weights, source, budget=budget, optimiser=OPTIMISER, fabric=fabric, folder=folder)
    return {"history": trained.history, "weights": step.state_dict()}


def everything(store: Store, folder: Path, fabric: Fabric) -> dict[str, Any]:
    found = {name: terms_and_gradients(objective, name, store, fabric) for name, objective in comparable().items()}
    three = curves(make_step(dropout=0.0), {"rhythm": 1.0, "beat": 0.2, "token": 2.0}, store, folder / "three", fabric)
    of_views = {name: comparable()[name] for name in ("byol", "cmsc")}
    views = {name: same_on_every_rank(objective) for name, objective in of_views.items()}
    two = curves(make_step(of_views, dropout=0.0, views=views), dict.fromkeys(of_views, 1.0), store, folder / "two", fabric)
    return {"objectives": found, "history": three["history"], "views": two}


if __name__ == "__main__":
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    ranks = make_fabric("cpu", "32")
    result = everything(open_store(root), out.with_suffix(".state"), ranks)
    if ranks.global_rank == 0:
        torch.save(result, out)
