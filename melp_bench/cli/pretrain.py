"""`melp-bench pretrain`: a recipe to a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from melp_bench.cli import options
from melp_bench.errors import UserError


def pretrain(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe, RECIPE+ENCODER, ENCODER or .toml file.")],
    protocol: Annotated[str, typer.Option("--protocol", "-p", help="Whose [pretrain] budget and corpus to use.")] = "demo",
    setting: options.Settings = None,
    engine: options.Engine = None,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Go on with a run that was stopped, or throw it away and begin again.")
    ] = True,
    device: options.Device = "auto",
    workers: options.Workers = 0,
) -> None:
    """Pretrain RECIPE and leave a checkpoint (safetensors and JSON); a run that was stopped goes on where it was."""
    from melp_bench.checkpoint import check_checkpoint, is_checkpoint, read_manifest
    from melp_bench.cli.run_output import quiet_console
    from melp_bench.cli.screen import Screen
    from melp_bench.home import home
    from melp_bench.locks import empty_folder, folder_lock
    from melp_bench.plugins import discover
    from melp_bench.pretrain.engine import read_engine
    from melp_bench.protocol import load_protocol
    from melp_bench.runs.candidates import candidate
    from melp_bench.runs.corpora import corpus_of
    from melp_bench.runs.references import parse
    from melp_bench.runs.stores import open_one
    from melp_bench.runs.training import as_resolved, has_begun, make_fabric, obtain

    rule, settings, chosen = load_protocol(protocol), options.settings(setting), read_engine(options.engine(engine))
    if rule.pretrain is None:
        raise UserError(f"protocol {rule.name!r} has no [pretrain]; name one that has with --protocol")
    budget = as_resolved(rule.pretrain, device)
    catalogue, screen = discover(), Screen(quiet_console())
    fabric = make_fabric(device, budget.precision, sharded=chosen.sharded)
    with fabric.rank_zero_first():
        uses = {alias: rule.datasets[alias] for alias in budget.aliases}
        cores = options.num_workers(workers)
        stores = {alias: open_one(catalogue.datasets[use.dataset], use, screen, cores) for alias, use in uses.items()}
    store, folder = corpus_of(budget, stores), home() / "checkpoints"
    reference = parse(recipe, catalogue, bare_recipe=budget.recipe)
    found = candidate(
        reference, catalogue, settings=settings, pretrain=budget, stores=stores, checkpoints=folder, engine=chosen
    )
    if not resume and fabric.global_rank == 0 and found.folder.is_relative_to(folder):
        with folder_lock(found.folder, f"beginning {found.label!r} again", screen.say):
            empty_folder(found.folder)
    fabric.barrier()
    known = is_checkpoint(found.folder)
    if known:
        check_checkpoint(found.folder)
    elif has_begun(found):
        screen.say(f"resume {found.label}  from its last validation; --restart begins again")
    obtain(found, catalogue, budget, store, fabric, screen, engine=chosen)
    if known:
        best = read_manifest(found.folder).pretraining
        at = f"  best step {best['best_step']}, validation loss {best['validation_loss']:.3f}" if "best_step" in best else ""
        screen.say(f"nothing to do  {found.label}{at}")
    screen.say(f"checkpoint  {found.folder}")
