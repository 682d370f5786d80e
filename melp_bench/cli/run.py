"""`melp-bench run`: models under a protocol, to a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melp_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from melp_bench.plugins import Catalogue
    from melp_bench.protocol import Protocol
    from melp_bench.results import ResultRecord
    from melp_bench.runs.label_views import Views
    from melp_bench.runs.plan import Plan

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="M",
        help="A recipe, RECIPE+ENCODER, ENCODER, .toml file, checkpoint folder or ENCODER@FILE (published); may be repeated.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PART.OPTION=VALUE", help="Change the recipe: encoder.layers=6, rhythm.weight=2, ..."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
PublishedSplits = Annotated[
    Path | None,
    typer.Option(
        "--published-splits", metavar="DIR", help="The folder data_split of the label files that published views read."
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes that make or read records; 0: one per core.")]


def run(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="A shipped protocol, or a .toml file.")],
    model: Models = None,
    setting: Settings = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Board and results; by default $MELP_BENCH_HOME/leaderboard.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do nothing.")] = False,
    device: Device = "auto",
    workers: Workers = 0,
    published_splits: PublishedSplits = None,
) -> None:
    """Pretrain (or load) models, evaluate them under PROTOCOL, and write the leaderboard."""
    from contextlib import nullcontext

    from melp_bench.cli.screen import Screen
    from melp_bench.home import home, make_folder
    from melp_bench.plugins import discover
    from melp_bench.protocol import load_protocol
    from melp_bench.results import read_results
    from melp_bench.runs.kept import code_changes, take_over
    from melp_bench.runs.label_views import open_views
    from melp_bench.runs.methods import find_method
    from melp_bench.runs.plan import make_plan
    from melp_bench.runs.ranks import num_ranks
    from melp_bench.runs.stores import open_stores, unprepared
    from melp_bench.runs.training import as_resolved, choose_device, make_fabric

    console, rule, settings = quiet_console(), load_protocol(protocol), parse_settings(setting)
    names = model or rule.models
    if not names:
        raise UserError(f"protocol {rule.name!r} names no models; give at least one with --model")
    _head(console, rule, choose_device(device))
    catalogue, screen, board = discover(), Screen(console), out or home() / "leaderboard"
    views = open_views(rule, published_splits)
    _show_views(console, views)
    if dry_run and (absent := unprepared(rule, catalogue)):
        _show_sketch(console, rule, names, settings, catalogue, absent)
        return
    precision = rule.pretrain.precision if rule.pretrain else "32"
    fabric = make_fabric(device, precision) if num_ranks() > 1 else None
    with fabric.rank_zero_first() if fabric else nullcontext():
        stores = open_stores(rule, catalogue, screen, num_workers(workers))
    pretrain, folder = rule.pretrain and as_resolved(rule.pretrain, device), home() / "checkpoints"
    methods = [
        find_method(name, catalogue, settings=settings, pretrain=pretrain, stores=stores, checkpoints=folder) for name in names
    ]
    plan = make_plan(rule, methods, catalogue, stores, board / "results", views)
    if not dry_run:
        make_folder(plan.results)
    rows = list(read_results(plan.results))  # a damaged one is told before any work
    _show_changes(console, code_changes(plan, rows))
    _show_plan(console, plan, each=dry_run)
    if dry_run:
        return
    if plan.missing():
        from melp_bench.runs.execute import execute

        fabric = fabric or make_fabric(device, precision)
        execute(plan, catalogue, fabric=fabric, listener=screen, features=home() / "features")
    if fabric is None or fabric.global_rank == 0:
        take_over(plan, rows)
        _finish(console, plan, list(read_results(plan.results)), board)


# ----------------------------------------------------------------------------------------------------------------------


def quiet_console() -> Console:
    """Return the console; of several ranks only the first speaks."""
    import os

    from rich.console import Console

    return Console(quiet=os.environ.get("RANK", "0") != "0")


def num_workers(asked: int) -> int:
    """Return how many processes make or read records: what was asked for, or one per core."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or cores


def parse_settings(settings: list[str] | None) -> dict[str, str]:
    """Return "part.option" -> value.

    Raises:
        UserError: a setting is not PART.OPTION=VALUE.
    """
    parsed: dict[str, str] = {}
    for setting in settings or []:
        name, sign, value = setting.partition("=")
        if not sign or not name:
            raise UserError(f"--set {setting!r} is not PART.OPTION=VALUE, as encoder.layers=6")
        parsed[name] = value
    return parsed


def _head(console: Console, rule: Protocol, device: str) -> None:
    """Say what is run on what."""
    import torch

    from melp_bench import __version__

    number = torch.get_num_threads()
    threads = f", {number} thread{'s' * (number > 1)}" if device == "cpu" else ""
    named = f"protocol {rule.name} (rev {rule.revision}, {rule.hash[:8]})"
    console.print(f"melp-bench {__version__} · {named} · {device}{threads}", markup=False, highlight=False, soft_wrap=True)


def _show_views(console: Console, views: Views) -> None:
    """Say of every task with the published view whether its label files are those that somebody vouches for."""
    for name, files in views.items():
        unknown = sum(file.verified == "unknown" for file in files.parts.values())
        told = (
            f"SHA-256 of {unknown} of {len(files.parts)} unknown; the rows record it"
            if unknown
            else "SHA-256 as published or stated"
        )
        _printer(console)(f"labels {name}: label files with {told}")


def _show_changes(console: Console, changes: dict[str, int]) -> None:
    """Say of which models rows are made anew because code changed."""
    for label, count in changes.items():
        rows = "1 row was made; it is" if count == 1 else f"{count} rows were made; they are"
        _printer(console)(f"{label}: code changed since {rows} kept, and made anew")


def _show_plan(console: Console, plan: Plan, *, each: bool) -> None:
    """Say how many rows are to be computed and for which models there is nothing to do; with `each`, show every row."""
    from melp_bench.checkpoint import is_checkpoint

    say = _printer(console)
    missing = {row.inputs.key for row in plan.missing()}
    say(
        f"plan   {len(missing)} rows to compute, {len(plan.rows) - len(missing)} cached"
        + ("" if missing else ": nothing to do")
    )
    for method in dict.fromkeys(row.method.label for row in plan.rows):
        rows = [row for row in plan.rows if row.method.label == method]
        if each:
            if not is_checkpoint(rows[0].method.folder):
                say(f"{'to pretrain' if rows[0].method.recipe.stages else 'to build':<14} {method}")
            for row in rows:
                unfit = f": {row.reason}" if row.reason else ""
                say(f"{'to compute' if row.inputs.key in missing else 'nothing to do':<14} {method}  {row}{unfit}")
        elif not any(row.inputs.key in missing for row in rows):
            say(f"nothing to do  {method}  {len(rows)} rows")


def _show_sketch(
    console: Console,
    rule: Protocol,
    names: Sequence[str],
    settings: dict[str, str],
    catalogue: Catalogue,
    absent: dict[str, str],
) -> None:
    """Show the plan of a protocol some of whose data is not there, so that nothing of it can have been computed."""
    from melp_bench.checkpoint import is_checkpoint, read_manifest
    from melp_bench.runs.measurements import measurements
    from melp_bench.runs.methods import find_recipe
    from melp_bench.runs.resolution import resolve
    from melp_bench.runs.starts import published_file

    say = _printer(console)
    planned = measurements(rule, catalogue)
    for alias, what in absent.items():
        say(f"corpus {alias} is not there; {what}")
    labels = [
        read_manifest(Path(name)).recipe.name
        if is_checkpoint(Path(name))
        else name
        if published_file(name, catalogue)
        else resolve(find_recipe(name, catalogue, rule.pretrain.recipe if rule.pretrain else None), catalogue, settings).name
        for name in names
    ]
    say(f"plan   {len(labels) * len(planned)} rows to compute")
    for label in labels:
        for row in planned:
            say(f"{'to compute':<14} {label}  {row}")


def _finish(console: Console, plan: Plan, rows: Sequence[ResultRecord], board: Path) -> None:
    """Write the board of all results in the folder, and print this protocol's tables."""
    from melp_bench.board import terminal_tables, write_board

    write_board(rows, board)
    wanted = {row.inputs.key for row in plan.rows}
    shown = [row for row in rows if row.key in wanted]
    for table in terminal_tables(shown):
        console.print(table)
    say = _printer(console)
    say(f"board  {board / 'index.html'}")
    if not all(row.generated for row in shown):
        return
    say("next   melp-bench data prepare ptb-xl --from /path/to/ptb-xl      real data")
    say("       melp-bench plugin new my-encoder                           your encoder")


def _printer(console: Console) -> Callable[[str], None]:
    """Return what prints a line as it is."""
    return lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)
