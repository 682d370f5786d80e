"""`melp-bench throughput`: records per second, memory and FLOPs, each component in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melp_bench.cli.components import OptionsFlag
from melp_bench.cli.fresh_process import in_fresh_process
from melp_bench.cli.options import key_values
from melp_bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from melp_bench.throughput.rows import SpeedRow, SubjectName, Work

Measurement = tuple["SubjectName", "Work"]


def throughput(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Encoders of ECGs or reports, objectives, ways of reading; all ECG encoders if none is named."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All there is, forward and with its backward pass; only what is not measured yet.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Records per call.")] = 16,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls, after three to warm up.")] = 20,
    train: Annotated[bool, typer.Option("--train", help="Time forward and backward instead of forward.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16 by autocast.")] = "float32",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default torch decides.")] = None,
    details: Annotated[
        bool,
        typer.Option("--details", help="Latency, batches, a training step's parts, memory and floor: CSV and roofline."),
    ] = False,
    compiled: Annotated[bool, typer.Option("--compiled", help="With --details: compiled by torch.")] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="With --details: only what the CSV has not of this machine.")
    ] = False,
    option: OptionsFlag = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where rows go; by default $MELP_BENCH_HOME/leaderboard/throughput."),
    ] = None,
) -> None:
    """Measure speed: median and quartiles of records/s, peak memory, parameters, GFLOPs."""
    from rich.console import Console

    from melp_bench.cli.throughput_details import measure_all_details
    from melp_bench.home import home, make_folder
    from melp_bench.plugins import discover
    from melp_bench.runs.speeds import all_names, subject_names
    from melp_bench.throughput.rows import DATA_PATH, ECG_ENCODER, KINDS, Work

    catalogue, options, console = discover(), key_values(option), Console()
    if everything and (names or options or train or details):
        raise UserError("--all measures everything, forward and backward, as it is by default; leave names and options out")
    if names:
        found = subject_names(names, options, catalogue)
    elif options:
        raise UserError(f"options {', '.join(options)} are of a component; name it")
    else:
        found, left_out = all_names(catalogue, KINDS if everything else (ECG_ENCODER,))
        for name, reason in left_out.items():
            console.print(f"left out  {name}: {reason}", style="dim", highlight=False, markup=False, soft_wrap=True)
    work = Work(
        mode="train" if train else "forward",
        batch=batch,
        repeats=repeats,
        device=_device(device),
        dtype=dtype,
        threads=threads,
    )
    folder = out or home() / "leaderboard" / "throughput"
    make_folder(folder)  # a place that cannot be written is told before anything is measured
    if details:
        chosen = [name.name for name in found if name.kind == ECG_ENCODER]
        if train or len(options) > 0 or len(chosen) < len(found):
            raise UserError(
                "--details measures both modes of ECG encoders at their own options; leave --train, -o and other names out"
            )
        measure_all_details(chosen, work, folder, console, compiled=compiled, missing=missing)
        return
    if compiled or missing:
        raise UserError("--compiled and --missing belong to --details; add it")
    modes = {"forward", "train"} if everything else {work.mode}
    asked = [(name, work.model_copy(update={"mode": mode})) for mode in sorted(modes) for name in found]
    asked = [(name, one) for name, one in asked if name.kind != DATA_PATH or one.mode == "forward"]
    _measure_all(asked, folder, console, resume=everything)


def _measure_all(asked: Sequence[Measurement], folder: Path, console: Console, *, resume: bool) -> None:
    """Measure one after the other, each row written at once, and show all; `resume` takes rows of this machine that are there.

    Raises:
        UserError: some could not be measured, which is told at the end.
    """
    from melp_bench.throughput.rows import write_speed

    there = _measured_here(asked, folder) if resume else {}
    rows: list[SpeedRow] = []
    failed: list[str] = []
    for place, (name, work) in enumerate(asked):
        if (row := there.get(place)) is None:
            with console.status(f"measuring {name.name}, {work.mode}"):
                try:
                    row = in_fresh_process(name, work)
                except UserError as error:
                    failed.append(str(error))
                    continue
            write_speed(row, folder)
        rows.append(row)
    _show(rows, folder, console)
    if failed:
        raise UserError("; ".join(failed))


def _measured_here(asked: Sequence[Measurement], folder: Path) -> dict[int, SpeedRow]:
    """Return the rows that are there of what is asked, on this machine and by these versions, by its place.

    Raises:
        UserError: the work cannot be done here, or a file is no row.
    """
    from melp_bench.throughput.machine import environment
    from melp_bench.throughput.rows import read_speeds, speed_key
    from melp_bench.throughput.speed import checked_device

    here = environment(checked_device(asked[0][1]), asked[0][1].dtype) if asked else {}
    rows = {row.key: row for row in read_speeds(folder)}
    keys = {place: speed_key(name, work, here) for place, (name, work) in enumerate(asked)}
    return {place: rows[key] for place, key in keys.items() if key in rows}


def _show(rows: Sequence[SpeedRow], folder: Path, console: Console) -> None:
    """Print a table of each kind and mode, and where the rows are."""
    from melp_bench.cli.tables import print_whole

    for kind, mode in dict.fromkeys((row.kind, row.work.mode) for row in rows):
        alike = [row for row in rows if (row.kind, row.work.mode) == (kind, mode)]
        print_whole(console, speed_table(alike))
        console.print(_footer(alike[0]), style="dim", highlight=False, markup=False)
    if rows:
        where = f"rows in {folder}; `melp-bench leaderboard` shows those of ECG encoders"
        console.print(where, style="dim", highlight=False, markup=False, soft_wrap=True)


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def speed_table(rows: Sequence[SpeedRow]) -> Table:
    """Return rows of one kind as a table; ratios are against the first."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=False)
    table.add_column(rows[0].kind, style="bold", overflow="fold", max_width=22)
    for heading in ("records/s", "quartiles", "ratio", "peak MB", "params", "GFLOPs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(f"{row.name} in {row.recipe}" if row.recipe else row.name),
            f"{row.records_per_second:,.0f}",
            f"{row.records_per_second_low:,.0f}-{row.records_per_second_high:,.0f}",
            f"{row.records_per_second / rows[0].records_per_second:.2f}",
            f"{row.peak_bytes / 1e6:,.0f}",
            f"{row.parameters / 1e6:.2f}M",
            f"{row.gflops_per_record:.3g}",
        )
    return table


def _footer(row: SpeedRow) -> str:
    work, at = row.work, row.environment
    what = "forward and backward" if work.mode == "train" else "forward"
    return (
        f"{what}, batch {work.batch}, median and quartiles of {work.repeats} calls; GFLOPs per record, forward.\n"
        f"{at['device_name']}, {at['threads']} threads, {at['dtype']}, torch {at['torch']}. Peak: {row.peak_method}."
    )
