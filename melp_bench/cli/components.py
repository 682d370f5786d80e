"""`melp-bench list`, `show` and `check`: what is installed, what it wants, and whether it keeps its promises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from melp_bench.cli.options import key_values
from melp_bench.errors import UnknownName

if TYPE_CHECKING:
    from melp_bench.plugins import Catalogue
    from melp_bench.registry import Entry

Found = list[tuple[str, "Entry[Any]"]]
OptionsFlag = Annotated[
    list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the component.")
]


def list_components() -> None:
    """List every component, by kind, with its plugin and licence; broken plugins last."""
    from rich.console import Console

    from melp_bench.cli.tables import broken_table, kind_table
    from melp_bench.plugins import discover

    catalogue, console = discover(), Console()
    for registry in catalogue.registries():
        console.print(
            kind_table(
                registry.kind if registry.kind.endswith("s") else f"{registry.kind}s",
                [(e.name, e.summary, e.plugin.partition(":")[0], e.license) for e in registry],
            )
        )
    if catalogue.broken:
        console.print(broken_table([(b.name, b.distribution, b.reason) for b in catalogue.broken]))


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A component, a recipe, a protocol or a checkpoint folder.")],
    option: OptionsFlag = None,
) -> None:
    """Show what a component, recipe, protocol or checkpoint is: what it wants, costs and has seen, and where it comes from."""
    from rich.console import Console

    from melp_bench.checkpoint import is_checkpoint
    from melp_bench.cli.describe import describe_component, describe_protocol, describe_recipe
    from melp_bench.cli.model_facts import describe_checkpoint
    from melp_bench.cli.tables import facts_table
    from melp_bench.plugins import discover
    from melp_bench.protocol import load_protocol, protocol_names
    from melp_bench.recipe import load_recipe, recipe_names

    catalogue, console = discover(), Console()
    if is_checkpoint(Path(name)):
        console.print(facts_table(f"checkpoint {name}", describe_checkpoint(Path(name), catalogue)))
        return
    found = find(catalogue, name)
    recipe = load_recipe(name) if name in recipe_names() else None
    protocol = load_protocol(name) if name in protocol_names() else None
    if not found and recipe is None and protocol is None:
        raise unknown(catalogue, name, [*recipe_names(), *protocol_names()])
    options = key_values(option)
    for kind, entry in found:
        console.print(facts_table(f"{kind} {name}", describe_component(kind, entry, options)))
    if recipe is not None:
        console.print(facts_table(f"recipe {name}", describe_recipe(recipe)))
    if protocol is not None:
        console.print(facts_table(f"protocol {name}", describe_protocol(protocol)))


def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed component.")],
    option: OptionsFlag = None,
    source: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="A dataset's native files.")] = None,
) -> None:
    """Check that a component keeps the promises of its kind; exit with 1 if it breaks one."""
    from rich.console import Console

    from melp_bench.cli.tables import verdict_table
    from melp_bench.plugins import discover
    from melp_bench.testing import check_component

    catalogue, console = discover(), Console()
    found, options = find(catalogue, name), key_values(option)
    if not found:
        raise unknown(catalogue, name, [])
    broken = 0
    for kind, entry in found:
        verdicts = check_component(kind, entry, options=options, source=source)
        console.print(f"{kind} {name}  ({entry.plugin})", style="bold", markup=False, highlight=False)
        console.print(verdict_table(verdicts))
        broken += sum(verdict.ok is False for verdict in verdicts)
    if broken:
        console.print(f"{broken} {'promise is' if broken == 1 else 'promises are'} broken", style="red")
        raise typer.Exit(1)


def find(catalogue: Catalogue, name: str) -> Found:
    """Return every component of that name with its kind; kinds do not share a namespace."""
    return [(registry.kind, registry[name]) for registry in catalogue.registries() if name in registry]


def unknown(catalogue: Catalogue, name: str, others: list[str]) -> UnknownName:
    """Return the error for a name that nothing has; a broken plugin of that name says why it is not there."""
    from melp_bench.registry import nearest

    for plugin in catalogue.broken:
        if plugin.name == name:
            return UnknownName(f"plugin {name!r} could not be loaded: {plugin.reason}")
    known = [entry.name for registry in catalogue.registries() for entry in registry] + others
    return UnknownName(f"nothing is named {name!r}{nearest(name, known)} `melp-bench list` shows what is installed")
