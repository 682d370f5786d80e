"""`melp-bench run`: models under a protocol, to a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melp_bench.cli import options

FAILED = 1
"""The exit status of a run some of whose cells failed; 2 is a mistake that ended it."""


def run(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="A shipped protocol, or a .toml file.")],
    model: options.Models = None,
    setting: options.Settings = None,
    engine: options.Engine = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Board and results; by default $MELP_BENCH_HOME/leaderboard.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do nothing.")] = False,
    device: options.Device = "auto",
    workers: options.Workers = 0,
    published_splits: options.PublishedSplits = None,
    log: options.Loggers = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="WORD,...",
            help="Only cells with all of these words: model, evaluation, task, ...; for either, repeat it.",
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="WORD,...", help="No cells with all of these; may be repeated."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes that share the cells.")] = 1,
    on: Annotated[str, typer.Option("--on", metavar="ray", help="Share the cells over a Ray cluster.")] = "",
    beside: Annotated[
        list[str] | None,
        typer.Option("--beside", metavar="PROTOCOL", help="Run this one, too, and show both side by side; may be repeated."),
    ] = None,
) -> None:
    """Pretrain (or load) models, evaluate them under PROTOCOL, and write the leaderboard."""
    from functools import partial

    from melp_bench.cli.run_output import (
        quiet_console,
        show_beside,
        show_end,
        show_failures,
        show_head,
        show_plan,
        show_sketch,
    )
    from melp_bench.cli.screen import Screen
    from melp_bench.plugins import discover
    from melp_bench.runs.pictures import draw_pictures
    from melp_bench.runs.run import Sketch, carry_out, look_ahead
    from melp_bench.runs.run_spec import make_spec
    from melp_bench.runs.side_by_side import specs_beside

    spec = make_spec(
        protocol,
        model,
        out=out,
        settings=options.settings(setting),
        engine=options.engine(engine),
        device=device,
        workers=options.num_workers(workers),
        published_splits=published_splits,
        loggers=log or (),
        only=only or (),
        skip=skip or (),
        jobs=jobs,
        on=on,
    )
    console, catalogue = quiet_console(), discover()
    results = []
    for one in [spec, *specs_beside(spec, beside or ())]:
        show_head(console, one)
        if dry_run:
            found = look_ahead(one, catalogue)
            if isinstance(found, Sketch):
                show_sketch(console, found)
            else:
                show_plan(console, *found, each=True)
            continue
        listener, on_plan = Screen(console), partial(show_plan, console, each=False)
        on_made = partial(draw_pictures, catalogue=catalogue)
        results.append(carry_out(one, catalogue, listener=listener, on_plan=on_plan, on_made=on_made))
        show_end(console, results[-1])
    for other in results[1:]:
        show_beside(console, results[0], other, catalogue)
    if failed := [result for result in results if result.failures]:
        for result in failed:
            show_failures(result.failures, len(result.plan.rows))
        raise typer.Exit(FAILED)
