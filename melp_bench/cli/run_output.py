"""What `melp-bench run` says: what is run on what, its plan, and where its results are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from melp_bench.plugins import Catalogue
    from melp_bench.runs.cells import Failure
    from melp_bench.runs.plan import Plan
    from melp_bench.runs.published_files import PublishedFiles
    from melp_bench.runs.run import RunResult, Sketch
    from melp_bench.runs.run_spec import RunSpec


def quiet_console() -> Console:
    """Return the console; of several ranks only the first speaks."""
    import os

    from rich.console import Console

    return Console(quiet=os.environ.get("RANK", "0") != "0")


def show_head(console: Console, spec: RunSpec) -> None:
    """Say what is run on what."""
    import torch

    from melp_bench import __version__
    from melp_bench.runs.training import choose_device

    rule, device, number = spec.protocol, choose_device(spec.device), torch.get_num_threads()
    threads = f", {number} thread{'s' * (number > 1)}" if device == "cpu" else ""
    named = f"protocol {rule.name} (rev {rule.revision}, {rule.hash[:8]})"
    _printer(console)(f"melp-bench {__version__} · {named} · {device}{threads}")


def show_plan(console: Console, plan: Plan, changes: Mapping[str, int], *, each: bool) -> None:
    """Say how many rows are to be computed and for which models there is nothing to do; with `each`, show every row.

    `changes` are the models whose rows are made anew because code changed, with how many.
    """
    from melp_bench.runs.duration import estimated_time

    say, missing = _printer(console), {row.inputs.key for row in plan.missing()}
    _show_label_files(say, plan.files)
    for label, count in changes.items():
        rows = "1 row was made; it is" if count == 1 else f"{count} rows were made; they are"
        say(f"{label}: code changed since {rows} kept, and made anew")
    cached = len(plan.rows) - len(missing)
    say(f"plan   {len(missing)} rows to compute, {cached} cached{'' if missing else ': nothing to do'}")
    if missing:
        say(f"time   {estimated_time(plan)}")
    for label in dict.fromkeys(row.candidate.told for row in plan.rows):
        _show_model(say, label, plan, missing, each=each)


def _show_model(say: Callable[[str], None], label: str, plan: Plan, missing: set[str], *, each: bool) -> None:
    from melp_bench.checkpoint import is_checkpoint

    rows = [row for row in plan.rows if row.candidate.told == label]
    one = rows[0].candidate
    if not each:
        if not any(row.inputs.key in missing for row in rows):
            say(f"nothing to do  {label}  {len(rows)} rows")
        return
    if not is_checkpoint(one.folder):
        what = "to import" if one.published else "to pretrain" if one.recipe.stages else "to build"
        say(f"{what:<14} {label}")
    for row in rows:
        unfit = f": {row.reason}" if row.reason else ""
        say(f"{'to compute' if row.inputs.key in missing else 'nothing to do':<14} {label}  {row}{unfit}")


def _show_label_files(say: Callable[[str], None], published: PublishedFiles) -> None:
    """Say of every task with the published split whether its label files are those that somebody vouches for."""
    for name, files in published.items():
        unknown = sum(file.verified == "unknown" for file in files.parts.values())
        told = (
            f"SHA-256 of {unknown} of {len(files.parts)} unknown; the rows record it"
            if unknown
            else "SHA-256 as published or stated"
        )
        say(f"labels {name}: label files with {told}")


def show_sketch(console: Console, sketch: Sketch) -> None:
    """Show the rows of a run some of whose data is not here, and what brings it."""
    say = _printer(console)
    for what, told in sketch.absent.items():
        say(f"{what} is not there; {told}")
    say(f"plan   {len(sketch.rows)} rows to compute")
    for label, row in sketch.rows:
        say(f"{'to compute':<14} {label}  {row}")


def show_end(console: Console, result: RunResult) -> None:
    """Print the tables of a run's rows, and where the board is."""
    if console.quiet:
        return
    from melp_bench.board import terminal_tables

    for table in terminal_tables(list(result.rows), columns=console.width):
        console.print(table)
    say = _printer(console)
    say(f"board  {result.board / 'index.html'}")
    if all(row.generated for row in result.rows):
        say("next   melp-bench data prepare ptb-xl --from /path/to/ptb-xl      real data")
        say("       melp-bench plugin new my-encoder                           your encoder")


def show_beside(console: Console, one: RunResult, two: RunResult, catalogue: Catalogue) -> None:
    """Write the page that puts one run's scores beside another's, lead to it from the board, and print it."""
    from melp_bench.board import write_board
    from melp_bench.board.score_moves import write_moves
    from melp_bench.cli.tables import move_tables, print_whole
    from melp_bench.results import read_results
    from melp_bench.runs.side_by_side import side_by_side

    if console.quiet:
        return
    page = side_by_side(one, two, catalogue)
    for table in move_tables(page):
        print_whole(console, table)
    name = f"{two.plan.protocol.name}-beside-{one.plan.protocol.name}"
    paths = write_moves(page, one.board / "beside", name)
    write_board(read_results(one.board / "results", lambda told: None), one.board)
    _printer(console)(f"page   {paths[-1]}")


def show_failures(failures: Sequence[Failure], cells: int) -> None:
    """Say on standard error which cells failed; the others are there."""
    import sys

    from melp_bench.board.escape import plain

    for one in failures:
        sys.stderr.write(f"failed  {plain(one)}\n")
    sys.stderr.write(f"melp-bench: {len(failures)} of {cells} cells failed; -v shows why, the same command tries again\n")


def _printer(console: Console) -> Callable[[str], None]:
    """Return what prints a line as it is."""
    return lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)
