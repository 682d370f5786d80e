"""From a candidate to its checkpoint: pretrained stage by stage, then found again by the digest of what it depends on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from melp_bench.checkpoint import is_checkpoint, save_checkpoint
from melp_bench.components import Objective, TextSource
from melp_bench.errors import UserError
from melp_bench.home import make_folder, remove_leftovers, unwritable
from melp_bench.locks import folder_lock
from melp_bench.model import PARTS, Model
from melp_bench.plugins import Catalogue
from melp_bench.pretrain.engine import PLAIN, Engine
from melp_bench.pretrain.loop import Trained, pretrain
from melp_bench.pretrain.randomness import stage_seed
from melp_bench.pretrain.state import FINISHED, load_state, save_state
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.validation import Budget
from melp_bench.progress import Listener, OnStep, StepValues, drawn_by
from melp_bench.protocol import Pretrain
from melp_bench.published.folder import import_checkpoint
from melp_bench.recipe import PREVIOUS, RANDOM, Recipe, Stage, stage_steps
from melp_bench.runs.building import build_model, build_step, num_classes
from melp_bench.runs.candidates import Candidate, is_untrained
from melp_bench.runs.corpora import data_of, parts_of, source_of, vocabulary_reports
from melp_bench.runs.loggers import Loggers
from melp_bench.runs.ranks import num_ranks, num_ranks_here
from melp_bench.runs.starts import corpora_of_starts, load_start, put
from melp_bench.runs.watching import watchers
from melp_bench.store import Store

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STATE, LOG = "state", "log.jsonl"
"""In a checkpoint's folder: the folder of a run that is under way, and the values of all its steps, one to a line."""


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


def choose_precision(device: str, precision: str) -> Literal["32", "bf16"]:
    """Return what "auto" comes to on the device that `device` comes to: bf16 where a GPU has it; anything else as it is.

    Raises:
        UserError: the device is not there.
    """
    half = choose_device(device) == "cuda" and torch.cuda.is_bf16_supported()
    return "bf16" if precision == "bf16" or (precision == "auto" and half) else "32"


def as_resolved(budget: Pretrain, device: str) -> Pretrain:
    """Return the budget with the precision that it has on `device`, of which the weights depend.

    Raises:
        UserError: the device is not there.
    """
    return budget.model_copy(update={"precision": choose_precision(device, budget.precision)})


def make_fabric(device: str, precision: str, *, sharded: bool = False) -> Fabric:
    """Return Fabric for `device` ("auto", "cpu", "cuda"); under torchrun or srun, one rank per process it started.

    Several ranks look for parameters that no objective reaches: a recipe may leave a head of its model without gradient.
    `sharded` spreads the weights over them (FSDP2).

    Raises:
        UserError: the device is not there, or a single rank is to be sharded.
    """
    if sharded and num_ranks() == 1:
        raise UserError("sharded=true spreads the weights over ranks, and there is one; start several by torchrun or srun")
    chosen_device = choose_device(device)  # before the import, which takes seconds
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

    from melp_bench.pretrain.sharding import shard

    chosen = {"32": "32-true", "bf16": "bf16-mixed"}[choose_precision(device, precision)]
    world, here = num_ranks(), num_ranks_here()
    strategy: Any = DDPStrategy(find_unused_parameters=True) if world > 1 else "auto"
    if sharded:
        strategy = ModelParallelStrategy(shard, data_parallel_size=world, tensor_parallel_size=1)
    fabric = Fabric(
        accelerator=chosen_device,
        devices=here,
        num_nodes=max(world // here, 1),
        strategy=strategy,
        precision=chosen,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def has_begun(candidate: Candidate) -> bool:
    """Return whether a run of this candidate was stopped on its way."""
    return any((candidate.folder / STATE).glob("*/*.pt"))


@dataclass(frozen=True)
class _Training:
    """What all stages of a candidate share."""

    candidate: Candidate
    catalogue: Catalogue
    budget: Pretrain
    store: Store
    fabric: Fabric
    listener: Listener
    engine: Engine

    def vocabulary(self) -> TextSource:
        """Return what a text encoder learns its vocabulary from."""
        return TextSource(reports=vocabulary_reports(self.candidate.recipe, self.store))

    def stage_folder(self, index: int) -> Path:
        """Return where the state of a stage lies while the candidate is trained."""
        return self.candidate.folder / STATE / f"{index}-{self.candidate.recipe.stages[index].name}"


def obtain(
    candidate: Candidate,
    catalogue: Catalogue,
    budget: Pretrain | None,
    store: Store | None,
    fabric: Fabric,
    listener: Listener,
    *,
    on_step: Sequence[OnStep] = (),
    loggers: Loggers | None = None,
    engine: Engine = PLAIN,
) -> None:
    """Make the candidate's checkpoint if it is not there: import its file, or pretrain; a run that was stopped is gone on with.

    `on_step` are called with the values of every step, and `loggers` write them, beside the log that is always written and the
    bar that is drawn.
    """
    if fabric.broadcast(is_checkpoint(candidate.folder)):
        return
    first = fabric.global_rank == 0
    with folder_lock(candidate.folder, f"making {candidate.told!r}", listener.say) if first else nullcontext():
        if fabric.broadcast(is_checkpoint(candidate.folder)):  # another process made it meanwhile
            return
        for folder in (candidate.folder, *candidate.folder.glob(f"{STATE}/*")) if first else ():
            remove_leftovers(folder)
        if candidate.published is None:
            _pretrain(candidate, catalogue, budget, store, fabric, listener, on_step, loggers or {}, engine)
        elif first:
            import_checkpoint(candidate.published.file, candidate.published.encoder, candidate.folder)
        fabric.barrier()


def _pretrain(
    candidate: Candidate,
    catalogue: Catalogue,
    budget: Pretrain | None,
    store: Store | None,
    fabric: Fabric,
    listener: Listener,
    on_step: Sequence[OnStep],
    loggers: Loggers,
    engine: Engine,
) -> None:
    """Train a recipe's stages, and write the checkpoint."""
    if is_untrained(candidate.recipe):
        _keep_untrained(candidate, catalogue, fabric)
        return
    if budget is None or store is None:
        raise UserError(f"{candidate.told!r} has no checkpoint, and the protocol says nothing of pretraining")
    recipe, training = candidate.recipe, _Training(candidate, catalogue, budget, store, fabric, listener, engine)
    model = build_model(recipe, catalogue, training.vocabulary(), budget.seed).to(fabric.device)
    made: dict[str, Any] = {"seed": budget.seed, "identity": candidate.identity}
    corpora = own_corpora(model, recipe, catalogue)
    if recipe.stages:
        with watchers(candidate, budget, loggers, fabric, listener) as watching:
            told = [*on_step, *watching]
            curves = [_train_stage(training, index, model, told) for index in range(len(recipe.stages))]
        made |= budget.model_dump(mode="json", exclude={"recipe", "seeds"}) | {"data": data_of(store), "stages": curves}
        made |= {key: curves[-1][key] for key in ("best_step", "validation_loss", "history", "signs")}
        made |= {"engine": engine.model_dump(mode="json", exclude_defaults=True)} if engine != PLAIN else {}
        corpora += [*corpora_of_starts(recipe, catalogue), *(part.name for part in parts_of(store))]
        listener.say(f"best   {candidate.told}  step {made['best_step']}, validation loss {made['validation_loss']:.3f}")
    if fabric.global_rank == 0:
        assets = model.text_encoder.assets() if model.text_encoder is not None else {}
        manifest = {"recipe": recipe, "corpora": list(dict.fromkeys(corpora)), "pretraining": made}
        save_checkpoint(candidate.folder, model, manifest, assets)
        shutil.rmtree(candidate.folder / STATE, ignore_errors=True)


def _keep_untrained(candidate: Candidate, catalogue: Catalogue, fabric: Fabric) -> None:
    """Write the checkpoint of a recipe that trains nothing: its encoder as it is built."""
    recipe, seed = candidate.recipe, candidate.seed or 0
    model = build_model(recipe, catalogue, TextSource(), seed)
    made = {"seed": seed, "identity": candidate.identity}
    if fabric.global_rank == 0:
        manifest = {"recipe": recipe, "corpora": own_corpora(model, recipe, catalogue), "pretraining": made}
        save_checkpoint(candidate.folder, model, manifest, {})


def own_corpora(model: Model, recipe: Recipe, catalogue: Catalogue) -> list[str]:
    """Return what the weights have seen that a recipe's encoder is built with; published ones come by an import instead."""
    published = catalogue.ecg_encoders[recipe.encoder.name].published is not None
    return [] if published else list(model.encoder.corpora)


def _train_stage(training: _Training, index: int, model: Model, on_step: Sequence[OnStep]) -> dict[str, Any]:
    """Train the model by a stage, or load what the stage left if it is finished; return its curves."""
    candidate, fabric, listener = training.candidate, training.fabric, training.listener
    stage, folder = candidate.recipe.stages[index], training.stage_folder(index)
    if (folder / f"{FINISHED}.pt").is_file():
        state = load_state(folder, FINISHED, stage=stage.name, module=model, fabric=fabric)
        return _curves(stage, Trained(**state["trained"]))
    _start(training, index, model)
    seed = stage_seed(training.budget.seed, index)
    torch.manual_seed(seed)
    step = build_step(stage, training.catalogue, model, num_classes(training.budget, training.store)).to(fabric.device)
    thaw = model.freeze(stage.untrained(candidate.recipe.present()))
    steps = stage_steps(candidate.recipe, training.budget.steps)[index]
    if not steps:
        raise UserError(f"stage {stage.name!r} gets {stage.share:g} of {training.budget.steps} steps, which is none")
    several = f" {stage.name}" if len(candidate.recipe.stages) > 1 else ""
    with listener.stage(f"pretrain {candidate.told}{several}", "steps") as advance:
        trained = pretrain(
            step,
            {part.term: part.weight for part in stage.objectives},
            source_of(stage, step, training.budget, training.store),
            budget=Budget(steps, training.budget.batch_size, seed, training.budget.validate_every),
            optimiser=stage.optimiser,
            fabric=fabric,
            folder=folder,
            stage=stage.name,
            listeners=[drawn_by(advance), _written_to(candidate.folder / LOG, fabric), *on_step],
            engine=training.engine,
            say=listener.say,
        )
    thaw()
    _export(step)
    save_state(
        folder, FINISHED, stage=stage.name, step=steps, module=model, fabric=fabric, optimizer=None, trained=vars(trained)
    )
    return _curves(stage, trained)


def _start(training: _Training, index: int, model: Model) -> None:
    """Put into each part of the model the weights that the stage starts from; by default those that are there."""
    recipe = training.candidate.recipe
    stage, names = recipe.stages[index], [stage.name for stage in recipe.stages]
    for part, source in stage.start.items():
        if source == PREVIOUS or (source == RANDOM and index == 0):
            continue
        if source == RANDOM:
            seed = stage_seed(training.budget.seed, index)
            fresh = build_model(recipe, training.catalogue, training.vocabulary(), seed)
        elif source in names:
            fresh = build_model(recipe, training.catalogue, training.vocabulary(), 0)
            folder = training.stage_folder(names.index(source))
            load_state(folder, FINISHED, stage=source, module=fresh, fabric=training.fabric)
        else:
            load_start(model, part, source, recipe, training.catalogue)
            continue
        module = getattr(fresh, PARTS[part])
        put(model, part, {} if module is None else module.state_dict(), source)


def _export(step: Step) -> None:
    """Put the average of the weights in their place, and a teacher's in the encoder's, where the stage keeps them."""
    if step.average is not None:
        step.model.load_state_dict(step.average.module.state_dict(), strict=True)
    for objective in step.objectives.values():
        if isinstance(objective, Objective) and (teacher := objective.exported()) is not None:
            step.model.encoder.load_state_dict(teacher.state_dict(), strict=True)


def _curves(stage: Stage, trained: Trained) -> dict[str, Any]:
    return {
        "name": stage.name,
        "best_step": trained.best_step,
        "validation_loss": trained.best_loss,
        "before": trained.before,
        "history": trained.history,
        "health": trained.health,
        "signs": trained.signs,
    }


def _written_to(path: Path, fabric: Fabric) -> Callable[[StepValues], None]:
    """Return what adds the values of every step to a file, as a line of JSON; after a kill some steps stand in it twice."""

    def write(values: StepValues) -> None:
        if fabric.global_rank == 0:
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(values.plain()) + "\n")
            except OSError as error:
                raise unwritable(path, error) from error

    if fabric.global_rank == 0:
        make_folder(path.parent)
    return write
