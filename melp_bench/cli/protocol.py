"""`melp-bench protocol`: what a protocol measures, defects that it reproduces among it, and what differs between two."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Show protocols, and what differs between two.", no_args_is_help=True, rich_markup_mode=None)
NAME_OR_FILE = "A shipped protocol, or a .toml file."


@app.command("list")
def list_protocols() -> None:
    """List the shipped protocols, with how many published defects each switches on."""
    from rich.console import Console

    from melp_bench.cli.tables import facts_table
    from melp_bench.protocol import load_protocol, protocol_names

    facts = []
    for protocol in map(load_protocol, protocol_names()):
        number = sum(bool(where) for where in protocol.defects.values())
        facts.append((protocol.name, protocol.summary + (f" ({number} defects)" if number else "")))
    Console().print(facts_table("protocols", facts))


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="PROTOCOL", help=NAME_OR_FILE)]) -> None:
    """Show what a protocol measures, on what, and which published defects it switches on."""
    from rich.console import Console

    from melp_bench.cli.describe import describe_protocol
    from melp_bench.cli.tables import facts_table
    from melp_bench.protocol import load_protocol

    protocol = load_protocol(name)
    Console().print(facts_table(f"protocol {protocol.name}", describe_protocol(protocol)))


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="PROTOCOL", help=NAME_OR_FILE)],
    two: Annotated[str, typer.Argument(metavar="PROTOCOL", help="Another.")],
) -> None:
    """Show what differs between two protocols, with every option filled in; what they share is said once."""
    from rich.console import Console

    from melp_bench.cli.diff import differences_table
    from melp_bench.plugins import discover
    from melp_bench.protocol import load_protocol
    from melp_bench.runs.protocol_differences import compare_protocols

    first, second = load_protocol(one), load_protocol(two)
    found, console = compare_protocols(first, second, discover()), Console()
    if found.same:
        console.print(f"the same: {'; '.join(found.same)}", markup=False, highlight=False)
    if found.differences:
        names = [f"{p.name} (rev {p.revision})" if first.name == second.name else p.name for p in (first, second)]
        console.print(differences_table(names[0], names[1], found.differences))
    else:
        console.print("nothing differs", markup=False, highlight=False)
