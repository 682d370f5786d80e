"""`melp-bench throughput`: records per second, memory and FLOPs, each encoder in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melp_bench.cli.components import OptionsFlag
from melp_bench.cli.fresh_process import in_fresh_process
from melp_bench.cli.options import key_values
from melp_bench.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from melp_bench.throughput.rows import SpeedRow


def throughput(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="ECG encoders; all if none is named.")] = None,
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
    """Measure the speed of ECG encoders: median and quartiles of records/s, peak memory, parameters, GFLOPs."""
    from rich.console import Console

    from melp_bench.cli.tables import print_whole
    from melp_bench.cli.throughput_details import measure_all_details
    from melp_bench.home import home, make_folder
    from melp_bench.plugins import discover
    from melp_bench.throughput.rows import Work, write_speed

    registry, options = discover().ecg_encoders, key_values(option)
    chosen = names or [entry.name for entry in registry]
    for name in chosen:
        registry[name].resolve(options)  # a wrong name or option is said before anything is measured
    work = Work(
        mode="train" if train else "forward",
        batch=batch,
        repeats=repeats,
        device=_device(device),
        dtype=dtype,
        threads=threads,
    )
    console, folder = Console(), out or home() / "leaderboard" / "throughput"
    make_folder(folder)  # a place that cannot be written is told before anything is measured
    if details:
        if train or len(options) > 0:
            raise UserError("--details measures both modes, with the options that encoders have; leave --train and -o out")
        measure_all_details(chosen, work, folder, console, compiled=compiled, missing=missing)
        return
    if compiled or missing:
        raise UserError("--compiled and --missing belong to --details; add it")
    rows, failed = [], []
    for name in chosen:
        with console.status(f"measuring {name}"):
            try:
                rows.append(in_fresh_process(name, options, work))
            except UserError as error:
                failed.append(str(error))
                continue
        write_speed(rows[-1], folder)
    if rows:
        print_whole(console, speed_table(rows))
        console.print(_footer(rows[0]), style="dim", highlight=False, markup=False)
        console.print(
            f"rows in {folder}; `melp-bench leaderboard` shows them", style="dim", highlight=False, markup=False, soft_wrap=True
        )
    if failed:
        raise UserError("; ".join(failed))


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def speed_table(rows: list[SpeedRow]) -> Table:
    """Return the rows as a table; ratios are against the first."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=False)
    table.add_column("encoder", style="bold", overflow="fold", max_width=22)
    for heading in ("records/s", "quartiles", "ratio", "peak MB", "params", "GFLOPs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(row.name),
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
