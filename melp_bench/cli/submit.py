"""`melp-bench submit`: rows with their predictions, in one file for somebody else's board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melp_bench.cli.results import Results


def submit(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="A shipped protocol, or a .toml file.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", metavar="M", help="Only rows of this model, as the board names it.")
    ] = None,
    results: Results = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The bundle; by default PROTOCOL.bundle.zip here.")
    ] = None,
) -> None:
    """Bundle the rows of PROTOCOL with predictions, recipes, environment and digests; no signal and no report is in it."""
    from melp_bench.cli.results import results_folder
    from melp_bench.plugins import discover
    from melp_bench.protocol import load_protocol
    from melp_bench.runs.submission import make_bundle

    rule = load_protocol(protocol)
    path = out or Path(f"{rule.name}.bundle.zip")
    about = make_bundle(rule, results_folder(results), path, model or (), discover())
    rows = sum(name.startswith("rows/") for name in about.files)
    typer.echo(f"{path}: {rows} rows of {', '.join(about.models)}, {path.stat().st_size:,} bytes")
    typer.echo("record and patient ids and labels are in it: send it only where the terms of the data allow that")
