"""`melp-bench sensitivity`: how far each defect of published benchmarks moves a model's scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melp_bench.cli import options


def sensitivity(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As `run --model` takes it.")],
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", help="What is measured, without and with each defect.")
    ] = "sensitivity-demo",
    defect: Annotated[
        list[str] | None,
        typer.Option("--defect", metavar="NAME[+NAME]", help="Toggle this one; may be repeated. By default all, each alone."),
    ] = None,
    setting: options.Settings = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Board and pages; by default $MELP_BENCH_HOME/leaderboard.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do nothing.")] = False,
    device: options.Device = "auto",
    workers: options.Workers = 0,
    published_splits: options.PublishedSplits = None,
) -> None:
    """Measure MODEL without and with each published defect alone, and say by how many points each moves each score."""
    from functools import partial

    from melp_bench.board import write_board
    from melp_bench.board.score_moves import write_moves
    from melp_bench.cli.run_output import quiet_console, show_head, show_plan, show_sketch
    from melp_bench.cli.screen import Screen
    from melp_bench.cli.tables import move_tables, print_whole
    from melp_bench.plugins import discover
    from melp_bench.results import read_results
    from melp_bench.runs.candidates import file_name
    from melp_bench.runs.run import Sketch, look_ahead
    from melp_bench.runs.run_spec import make_spec
    from melp_bench.runs.sensitivity import EVERY, measure_moves, prepare_toggles

    spec = make_spec(
        protocol,
        [model],
        out=out,
        settings=options.settings(setting),
        device=device,
        workers=options.num_workers(workers),
        published_splits=published_splits,
    )
    console, catalogue, names = quiet_console(), discover(), tuple(defect or EVERY)
    show_head(console, spec)
    if dry_run:
        found = look_ahead(prepare_toggles(spec, catalogue, names, make=False)[0], catalogue)
        if isinstance(found, Sketch):
            show_sketch(console, found)
        else:
            show_plan(console, *found, each=True)
        return
    on_plan = partial(show_plan, console, each=False)
    page, result = measure_moves(spec, catalogue, names, listener=Screen(console), on_plan=on_plan)
    for table in move_tables(page):
        print_whole(console, table)
    paths = write_moves(page, result.board / "sensitivity", f"{file_name(page.subject)}-{spec.protocol.name}")
    write_board(read_results(result.board / "results", lambda told: None), result.board)  # which leads to the page
    console.print(f"page   {paths[-1]}", markup=False, highlight=False, soft_wrap=True)
