"""`melp-bench diff`: what differs between two methods, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from melp_bench.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from melp_bench.plugins import Catalogue
    from melp_bench.protocol import Protocol
    from melp_bench.recipe import Recipe
    from melp_bench.runs.differences import SettingDifference

HELP = "A recipe, RECIPE+ENCODER, .toml file or checkpoint folder."


def diff(
    one: Annotated[str, typer.Argument(metavar="RECIPE", help=HELP)],
    two: Annotated[str, typer.Argument(metavar="RECIPE", help="Another.")],
    protocol: Annotated[str, typer.Option("--protocol", "-p", help="Whose [pretrain] both are trained by.")] = "demo",
) -> None:
    """Show what differs between two recipes, with every option filled in; what they share is said once."""
    from rich.console import Console

    from melp_bench.plugins import discover
    from melp_bench.protocol import load_protocol
    from melp_bench.runs.differences import compare

    rule, catalogue, console = load_protocol(protocol), discover(), Console()
    first, second = (_resolved(name, rule, catalogue) for name in (one, two))
    found = compare(first, second)
    console.print(f"under {_budget(rule)}", markup=False, highlight=False)
    if found.same:
        console.print(f"the same: {'; '.join(found.same)}", markup=False, highlight=False)
    if found.differences:
        console.print(differences_table(first.name, second.name, found.differences))
    else:
        console.print("nothing differs", markup=False, highlight=False)


def _resolved(name: str, protocol: Protocol, catalogue: Catalogue) -> Recipe:
    """Return the recipe that `name` stands for, every option filled in.

    Raises:
        UserError: it is a published file, which says nothing of how it was trained.
    """
    from melp_bench.checkpoint import read_manifest
    from melp_bench.runs.candidates import recipe_of
    from melp_bench.runs.references import CheckpointReference, RecipeReference, parse
    from melp_bench.runs.resolution import resolve

    reference = parse(name, catalogue, bare_recipe=protocol.pretrain.recipe if protocol.pretrain else None)
    if isinstance(reference, RecipeReference):
        return resolve(recipe_of(reference), catalogue, {})
    if isinstance(reference, CheckpointReference):
        return resolve(read_manifest(reference.folder).recipe, catalogue, {})
    raise UserError(f"{name!r} is a published file, which says nothing of how it was trained; name a recipe")


def _budget(protocol: Protocol) -> str:
    """Return in words what a protocol gives to both: corpus, steps, batch, seed, split."""
    named, budget = f"protocol {protocol.name} (rev {protocol.revision})", protocol.pretrain
    if budget is None:
        return f"{named}, which pretrains nothing"
    uses = [protocol.datasets[alias] for alias in budget.aliases]
    corpus = " and ".join(use.dataset + "".join(f" {key}={value}" for key, value in use.options.items()) for use in uses)
    splits = ", ".join(dict.fromkeys(use.split for use in uses))
    return (
        f"{named}: {budget.steps:,} step{'s' * (budget.steps > 1)} of {budget.batch_size} from {corpus}, "
        f"seed {budget.seed}, split {splits}, validated every {budget.validate_every}"
    )


def differences_table(one: str, two: str, differences: tuple[SettingDifference, ...]) -> Table:
    """Return both sides of every difference, under the recipes' names."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", style="dim", overflow="fold", max_width=24)
    for name in (one, two):
        table.add_column(Text(name), overflow="fold", ratio=1)
    for found in differences:
        table.add_row(Text(found.place), Text(found.one), Text(found.two))
    return table
