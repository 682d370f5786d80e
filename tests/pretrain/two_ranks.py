"""Run by torchrun (and, for comparison, in one process): terms and gradients of every objective, and a short pretraining."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from tiny_method import OPTIMISER, make_source, make_step
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.plugins import discover
from melp_bench.pretrain import step as step_module
from melp_bench.pretrain.distributed import gather_over, total_loss
from melp_bench.pretrain.loop import pretrain
from melp_bench.pretrain.step import wanted_inputs
from melp_bench.pretrain.validation import Budget
from melp_bench.runs.training import make_fabric
from melp_bench.store import Store, open_store

OPTIONS: dict[str, dict[str, object]] = {"beat": {"global_batch": True}, "token": {"layers": 1, "heads": 2}}
BATCH = 8


def gain(signal: Tensor, generator: torch.Generator) -> Tensor:
    """A view whose randomness is the same on every rank."""
    return signal * (1 + torch.rand(1, generator=generator))


def comparable() -> dict[str, mb.Objective]:
    """Return the catalogue's objectives whose loss is a function of the batch's features, without dropout."""
    found: dict[str, mb.Objective] = {}
    for entry in discover().objectives:
        sizes = make_step({}).model.sizes(2)
        try:
            torch.manual_seed(1)
            objective = entry.build(sizes, **OPTIONS.get(entry.name, {}))
        except (mb.UserError, TypeError):
            continue  # wants what this model has not
        if set(wanted_inputs(objective)) & {"signal", "encoder"}:
            continue  # draws its own masks
        for part in objective.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        found[entry.name] = objective
    return found


def terms_and_gradients(objective: mb.Objective, name: str, store: Store, fabric: Fabric) -> dict[str, Any]:
    step = make_step({name: objective}, dropout=0.0)
    source = make_source(store, step)
    module, _ = fabric.setup(step, torch.optim.SGD(step.parameters(), lr=0.1))
    mine = source.train[:BATCH][fabric.global_rank :: fabric.world_size]
    terms = module(source.batch(mine, fabric.device), torch.Generator().manual_seed(5), gather_over(fabric))
    total, values = total_loss(terms, {name: 1.0}, fabric)
    fabric.backward(total)
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in step.named_parameters()}
    return {"values": values, "gradients": gradients}


def everything(store: Store, folder: Path, fabric: Fabric) -> dict[str, Any]:
    step_module.augment = gain
    found = {name: terms_and_gradients(objective, name, store, fabric) for name, objective in comparable().items()}
    step = make_step(dropout=0.0)
    weights = {"rhythm": 1.0, "beat": 0.2, "token": 2.0}
    budget = Budget(steps=4, batch_size=BATCH, seed=3, validate_every=2)
    source = make_source(store, step)
    trained = pretrain(step, weights, source, budget=budget, optimiser=OPTIMISER, fabric=fabric, folder=folder)
    return {"objectives": found, "history": trained.history}


if __name__ == "__main__":
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    ranks = make_fabric("cpu", "32")
    result = everything(open_store(root), out.with_suffix(".state"), ranks)
    if ranks.global_rank == 0:
        torch.save(result, out)
