"""The commands, in the order of their use."""

from __future__ import annotations

from typing import Annotated

import typer

from melp_bench import __version__
from melp_bench.cli import (
    checkpoints,
    components,
    data,
    diff,
    embed,
    leaderboard,
    plugin,
    predict,
    pretrain,
    protocol,
    results,
    run,
    scaling,
    sensitivity,
    submit,
    throughput,
)
from melp_bench.cli.options import QUIET

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
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Take the options that stand before every command."""
    QUIET.set(quiet)


app.command("run", short_help="Evaluate models under a protocol, and write the board.")(run.run)
app.command("pretrain", short_help="Pretrain a recipe, or go on with it.")(pretrain.pretrain)
app.command("import", short_help="Import a published checkpoint.")(checkpoints.import_file)
app.command("export", short_help="Write a checkpoint under its published names, or as ONNX.")(checkpoints.export_file)
app.add_typer(data.app, name="data")
app.command("embed", short_help="Write a model's features of a dataset.")(embed.embed)
app.command("probe", short_help="Fit a probe and keep it.")(predict.probe)
app.command("predict", short_help="Score record files by a kept probe, and draw them.")(predict.predict)
app.command("list", short_help="List every component, its plugin and licence.")(components.list_components)
app.command("show", short_help="Show what a component, recipe or protocol is.")(components.show)
app.command("diff", short_help="Show what differs between two recipes.")(diff.diff)
app.add_typer(protocol.app, name="protocol")
app.command("check", short_help="Check that a component keeps its promises.")(components.check)
app.add_typer(leaderboard.app, name="leaderboard")
app.add_typer(results.app, name="results")
app.command("submit", short_help="Bundle rows and predictions for another board.")(submit.submit)
app.command("sensitivity", short_help="Measure what each published defect moves.")(sensitivity.sensitivity)
app.command("throughput", short_help="Measure speed, memory and FLOPs of components.")(throughput.throughput)
app.command("scaling", short_help="Estimate what pretraining costs on many GPUs.")(scaling.scaling)
app.add_typer(plugin.app, name="plugin")
