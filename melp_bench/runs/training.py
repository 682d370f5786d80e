"""From a method to its checkpoint: pretrained once, then found again by the digest of what it depends on."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from melp_bench.checkpoint import is_checkpoint, owned_tensors, save_checkpoint
from melp_bench.components import TextSource
from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder
from melp_bench.plugins import Catalogue
from melp_bench.pretrain.loop import Budget, Trained, pretrain
from melp_bench.pretrain.source import PretrainSource
from melp_bench.pretrain.step import Step
from melp_bench.progress import Listener
from melp_bench.protocol import Pretrain
from melp_bench.runs.methods import Method, build_model, build_objectives
from melp_bench.splits import holdout
from melp_bench.store import Store

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STATE = "state"
"""The folder, inside a checkpoint's, of a run that is under way."""


def choose_device(device: str) -> str:
    """Return "cpu" or "cuda" for what was asked: "auto", "cpu" or "cuda".

    Raises:
        UserError: the device is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device {device!r} is unknown; wanted auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' was asked for, but torch sees no GPU; use --device cpu")
    return "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"


def num_ranks() -> int:
    """Return how many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def make_fabric(device: str, precision: str) -> Fabric:
    """Return Fabric for `device` ("auto", "cpu", "cuda"); under torchrun, one rank per process it started.

    Several ranks look for parameters that no objective reaches: a recipe may leave a head of its model without gradient.

    Raises:
        UserError: the device is not there.
    """
    chosen_device = choose_device(device)  # before the import, which takes seconds
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    half = chosen_device == "cuda" and torch.cuda.is_bf16_supported()
    chosen = {"auto": "bf16-mixed" if half else "32-true", "32": "32-true", "bf16": "bf16-mixed"}[precision]
    world, here = num_ranks(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=chosen_device,
        devices=here,
        num_nodes=max(world // here, 1),
        strategy=DDPStrategy(find_unused_parameters=True) if world > 1 else "auto",
        precision=chosen,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def has_begun(method: Method) -> bool:
    """Return whether a run of this method was stopped on its way."""
    return (method.folder / STATE / "last.pt").is_file()


def obtain(
    method: Method, catalogue: Catalogue, budget: Pretrain | None, store: Store | None, fabric: Fabric, listener: Listener
) -> None:
    """Make the method's checkpoint if it is not there; a run that was stopped is gone on with."""
    if is_checkpoint(method.folder):
        return
    if budget is None or store is None:
        raise UserError(f"{method.label!r} has no checkpoint, and the protocol says nothing of pretraining")
    reports = [store.reports[i] for i in holdout(store.folds)[0].train] if method.recipe.text else []
    model = build_model(method.recipe, catalogue, TextSource(reports=reports), budget.seed)
    named = "labels" in budget.model_fields_set or budget.labels in store.tasks
    labels = store.labels(budget.labels) if named else None
    objectives = build_objectives(method.recipe, catalogue, model, 0 if labels is None else labels.shape[1])
    made: dict[str, Any] = {"seed": budget.seed}
    published = catalogue.ecg_encoders[method.recipe.encoder.name].published is not None
    corpora = [] if published else list(model.encoder.corpora)  # published weights come by an import, never by a recipe
    if objectives:
        trained = _train(method, Step(model, objectives), budget, store, labels, fabric, listener)
        made |= budget.model_dump(mode="json") | {"data": store.fingerprint, "best_step": trained.best_step}
        made |= {"validation_loss": trained.best_loss, "history": trained.history, "identity": method.identity}
        corpora.append(store.name)
        listener.say(f"best   {method.label}  step {trained.best_step}, validation loss {trained.best_loss:.3f}")
    if fabric.global_rank == 0:
        if objectives:
            tensors = owned_tensors(torch.nn.ModuleDict(objectives))
            atomic_write(make_folder(method.folder) / "objectives.safetensors", save(tensors))
        assets = model.text_encoder.assets() if model.text_encoder is not None else {}
        manifest = {"recipe": method.recipe, "corpora": corpora, "pretraining": made}
        save_checkpoint(method.folder, model, manifest, assets)
        shutil.rmtree(method.folder / STATE, ignore_errors=True)
    fabric.barrier()


def _train(
    method: Method,
    step: Step,
    budget: Pretrain,
    store: Store,
    labels: NDArray[np.bool_] | None,
    fabric: Fabric,
    listener: Listener,
) -> Trained:
    source = PretrainSource(store, step.model.encoder.spec, step.model.text_encoder if step.reads_reports else None, labels)
    with listener.stage(f"pretrain {method.label}", "steps") as advance:
        return pretrain(
            step,
            {part.name: part.weight for part in method.recipe.objectives},
            source,
            budget=Budget(budget.steps, budget.batch_size, budget.seed, budget.validate_every),
            optimiser=method.recipe.optimiser,
            fabric=fabric,
            folder=method.folder / STATE,
            report=advance,
        )
