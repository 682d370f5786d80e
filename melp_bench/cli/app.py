"""The commands, in the order of their use."""

from __future__ import annotations

from typing import Annotated

import typer

from melp_bench import __version__
from melp_bench.cli import checkpoints, components, data, leaderboard, plugin, pretrain, pretrain_text, run, throughput

app = typer.Typer(
    name="melp-bench",
    help="ECG and ECG-language encoders, pretrained and measured under one protocol, with an interval beside every number.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"melp-bench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show log lines, and the traceback of an error.")] = False,
) -> None:
    """Take the options that stand before every command."""


app.command("run")(run.run)
app.command("pretrain")(pretrain.pretrain)
app.command("pretrain-text")(pretrain_text.pretrain_text)
app.command("import")(checkpoints.import_file)
app.command("export")(checkpoints.export_file)
app.add_typer(data.app, name="data")
app.command("list")(components.list_components)
app.command("show")(components.show)
app.command("check")(components.check)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("throughput")(throughput.throughput)
app.add_typer(plugin.app, name="plugin")
