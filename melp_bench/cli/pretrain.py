"""`melp-bench pretrain`: a recipe to a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from melp_bench.cli.run import Device, Settings, Workers, num_workers, parse_settings, quiet_console
from melp_bench.errors import UserError


def pretrain(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe, RECIPE+ENCODER, ENCODER or .toml file.")],
    protocol: Annotated[str, typer.Option("--protocol", "-p", help="Whose [pretrain] budget and corpus to use.")] = "demo",
    setting: Settings = None,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Go on with a run that was stopped, or throw it away and begin again.")
    ] = True,
    device: Device = "auto",
    workers: Workers = 0,
) -> None:
    """Pretrain RECIPE and leave a checkpoint (safetensors and JSON); a run that was stopped goes on where it was."""
    from melp_bench.checkpoint import check_checkpoint, is_checkpoint, read_manifest
    from melp_bench.cli.screen import Screen
    from melp_bench.home import home
    from melp_bench.locks import empty_folder, folder_lock
    from melp_bench.plugins import discover
    from melp_bench.protocol import load_protocol
    from melp_bench.runs.methods import find_method
    from melp_bench.runs.stores import open_one
    from melp_bench.runs.training import as_resolved, has_begun, make_fabric, obtain

    rule, settings = load_protocol(protocol), parse_settings(setting)
    if rule.pretrain is None:
        raise UserError(f"protocol {rule.name!r} has no [pretrain]; name one that has with --protocol")
    budget = as_resolved(rule.pretrain, device)
    catalogue, screen = discover(), Screen(quiet_console())
    use = rule.datasets[budget.dataset]
    fabric = make_fabric(device, budget.precision)
    with fabric.rank_zero_first():
        store = open_one(catalogue.datasets[use.dataset], use, screen, num_workers(workers))
    stores, folder = {budget.dataset: store}, home() / "checkpoints"
    method = find_method(recipe, catalogue, settings=settings, pretrain=budget, stores=stores, checkpoints=folder)
    if not resume and fabric.global_rank == 0 and method.folder.is_relative_to(folder):
        with folder_lock(method.folder, f"beginning {method.label!r} again", screen.say):
            empty_folder(method.folder)
    fabric.barrier()
    known = is_checkpoint(method.folder)
    if known:
        check_checkpoint(method.folder)
    elif has_begun(method):
        screen.say(f"resume {method.label}  from its last validation; --restart begins again")
    obtain(method, catalogue, budget, store, fabric, screen)
    if known:
        best = read_manifest(method.folder).pretraining
        at = f"  best step {best['best_step']}, validation loss {best['validation_loss']:.3f}" if "best_step" in best else ""
        screen.say(f"nothing to do  {method.label}{at}")
    screen.say(f"checkpoint  {method.folder}")
