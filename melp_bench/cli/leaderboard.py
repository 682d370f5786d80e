"""`melp-bench leaderboard`: result rows become a board, and others' rows join them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from melp_bench.errors import UserError

app = typer.Typer(help="Write the board of all result rows, or accept others' rows.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def leaderboard(
    context: typer.Context = None,  # type: ignore[assignment]  # Typer gives it; a caller need not
    results: Annotated[
        Path | None, typer.Option("--results", metavar="DIR", help="Folder of result rows; by default OUT/results.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the board goes; by default $MELP_BENCH_HOME/leaderboard.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="Shown in the terminal where rows have it: ece, for example.")
    ] = None,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write board.parquet, too.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 2 if the board is stale.")] = False,
) -> None:
    """Write the board of all result rows and of speeds in OUT/throughput: pages, README.md, board.tex, and tables as CSV."""
    if context is not None and context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from melp_bench.board import board_files, stale_files, terminal_tables, write_board, write_parquet
    from melp_bench.board.write import SPEEDS, pages_beside
    from melp_bench.home import home
    from melp_bench.registry import nearest
    from melp_bench.results import read_results
    from melp_bench.throughput.rows import read_speeds

    out = out or home() / "leaderboard"
    results = results or out / "results"
    if not results.is_dir():
        raise UserError(f"no folder of results at {str(results)!r}; `melp-bench run demo` makes one, or give --results DIR")
    records = list(read_results(results, lambda told: typer.echo(told, err=True)))
    again = shlex.join(["melp-bench", "leaderboard", "--results", str(results), "--out", str(out)])
    if check:
        files = board_files(records, read_speeds(out / SPEEDS), results, pages_beside(out))
        if stale := stale_files(files, out):
            raise UserError(f"the board in {str(out)!r} is stale ({', '.join(stale)}); write it anew: {again}")
        return
    known = {name for record in records if record.outcome is not None for name in record.outcome.metrics}
    if metric is not None and metric not in known:
        raise UserError(f"no row has the metric {metric!r}{nearest(metric, sorted(known))} Known: {', '.join(sorted(known))}")
    console = Console()
    for table in terminal_tables(records, metric, console.width):
        console.print(table)
    write_board(records, out, results)  # last: what cannot be written can be read all the same
    if parquet:
        write_parquet(records, out)
    console.print(f"board  {out / 'index.html'}", markup=False, highlight=False, soft_wrap=True)


@app.command("accept", short_help="Recompute every cell of a bundle, and add its rows.")
def accept(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What `melp-bench submit` made.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The board; by default $MELP_BENCH_HOME/leaderboard.")
    ] = None,
) -> None:
    """Recompute every score of BUNDLE from its predictions, add its rows to OUT/results if all agree, and write the board."""
    from melp_bench.board import write_board
    from melp_bench.board.escape import plain
    from melp_bench.home import home
    from melp_bench.plugins import discover
    from melp_bench.results import read_results
    from melp_bench.runs.submission import accept_bundle

    out = out or home() / "leaderboard"
    found = accept_bundle(bundle, out / "results", discover())
    for line in found.there:
        typer.echo(plain(line))
    write_board(read_results(out / "results"), out)
    typer.echo(f"{len(found.rows)} rows verified and added; board  {out / 'index.html'}")
