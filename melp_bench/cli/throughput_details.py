"""`melp-bench throughput --details`: each encoder's figures in fresh processes, one CSV, a table per device and a roofline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from melp_bench.cli.fresh_process import answer_of_fresh_process, in_fresh_process
from melp_bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from melp_bench.throughput.measurements import MeasuredFigure
    from melp_bench.throughput.rows import Work

CHILD = "import sys; from melp_bench.cli.throughput_details import measure_one; measure_one(sys.argv[1], sys.argv[2])"
ROOFLINE = "roofline.png"
INFERENCE = {
    "records/s": ("forward", "records_per_second", 1.0),
    "batch": ("forward", "best_batch", 1.0),
    "p50 ms": ("forward", "latency_p50_ms", 1.0),
    "p90 ms": ("forward", "latency_p90_ms", 1.0),
    "floor": ("forward", "floor_fraction", 1.0),
    "MB": ("forward", "peak_bytes", 1e-6),
    "error": ("forward", "maximal_error", 1.0),
}
"""Column -> mode, metric, and what it is multiplied by; records/s are those at the best batch."""
TRAINING = {
    "forward ms": ("train", "forward_ms", 1.0),
    "backward ms": ("train", "backward_ms", 1.0),
    "optimiser ms": ("train", "optimiser_ms", 1.0),
    "MB": ("train", "peak_bytes", 1e-6),
}
Columns = Mapping[str, tuple[str, str, float]]


def measure_all_details(
    names: Sequence[str], work: Work, folder: Path, console: Console, *, compiled: bool, missing: bool
) -> None:
    """Measure each encoder and write `measurements.csv` after each, so that a run that was stopped loses one; then show all.

    Raises:
        UserError: some could not be measured, which is told at the end.
    """
    from melp_bench.throughput.measurements import read_measurements, write_measurements
    from melp_bench.throughput.roofline import plot_rooflines, rooflines

    provider, failed, rows = f"{'compiled' if compiled else 'eager'} {work.dtype}", [], read_measurements(folder)
    done = _measured_here(rows, provider, work) if missing else set()
    for name in names:
        if name in done:
            continue
        with console.status(f"measuring {name}"):
            try:
                found = _details(name, work, provider, compiled=compiled)
            except UserError as error:
                failed.append(str(error))
                continue
        rows = write_measurements(found, folder)
    for device, version in sorted({(row.device, row.version) for row in rows}):
        here = [row for row in rows if (row.device, row.version) == (device, version)]
        console.print(f"{device}; {version}", style="bold", highlight=False, markup=False)
        for columns in (INFERENCE, TRAINING):
            console.print(details_table(here, columns))
    if lines := rooflines(rows):
        plot_rooflines(lines).savefig(folder / ROOFLINE, dpi=150)
        where = f"measurements.csv and {ROOFLINE} in {folder}"
        console.print(where, style="dim", highlight=False, markup=False, soft_wrap=True)
    if failed:
        raise UserError("; ".join(failed))


def _details(name: str, work: Work, provider: str, *, compiled: bool) -> list[MeasuredFigure]:
    """Return all figures of an encoder: peak memory of each mode from a process of its own, the rest from a third."""
    from melp_bench.throughput.measurements import MeasuredFigure
    from melp_bench.throughput.rows import SubjectName

    asked = {"name": name, "work": work.model_dump(mode="json"), "compiled": compiled}
    found = [MeasuredFigure(**row) for row in json.loads(answer_of_fresh_process(CHILD, asked))]
    for mode in () if compiled else ("forward", "train"):
        row = in_fresh_process(SubjectName(name=name), work.model_copy(update={"mode": mode, "repeats": 1}))
        peak, at = float(row.peak_bytes), found[0]
        found.append(MeasuredFigure(name, provider, mode, "peak_bytes", work.batch, peak, peak, peak, at.device, at.version))
    return found


def measure_one(asked: str, path: str) -> None:
    """Measure the encoder that `asked` (JSON) names and write its figures to `path`; what the fresh process runs."""
    import torch

    from melp_bench.home import atomic_write
    from melp_bench.plugins import discover
    from melp_bench.throughput.details import measure_details
    from melp_bench.throughput.rows import Work
    from melp_bench.throughput.speed import checked_device

    given = json.loads(asked)
    work, entry = Work.model_validate(given["work"]), discover().ecg_encoders[given["name"]]
    device = checked_device(work)
    torch.manual_seed(0)
    rows = measure_details(
        entry.name,
        entry.build(**entry.resolve({})),
        device,
        dtype=work.dtype,
        compiled=given["compiled"],
        repeats=work.repeats,
        train_batch=work.batch,
    )
    atomic_write(Path(path), json.dumps([asdict(row) for row in rows]))


def _measured_here(rows: Sequence[MeasuredFigure], provider: str, work: Work) -> set[str]:
    """Return the encoders that this provider has been measured of on this machine, by these versions."""
    import torch

    from melp_bench.throughput.details import place, versions

    if work.threads is not None:
        torch.set_num_threads(work.threads)
    here = (place(torch.device(work.device)), versions(), provider)
    return {row.kernel for row in rows if (row.device, row.version, row.provider) == here and row.mode == "train"}


def details_table(rows: Sequence[MeasuredFigure], columns: Columns) -> Table:
    """Return figures of one device, a line per encoder and provider: most records per second first, or by name."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        for heading, (mode, metric, factor) in columns.items():
            if (row.mode, row.metric) == (mode, metric) and row.kernel not in ("matmul", "copy"):
                line, value = lines.setdefault((row.kernel, row.provider), {}), factor * row.median
                line[heading] = max(value, line.get(heading, value)) if metric == "records_per_second" else value
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=False)
    table.add_column("encoder", style="bold", overflow="fold", max_width=16)
    table.add_column("", overflow="fold", max_width=9)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for (kernel, provider), line in sorted(lines.items(), key=lambda item: (-item[1].get("records/s", 0.0), item[0])):
        shown = (_figure(line[heading]) if heading in line else "" for heading in columns)
        table.add_row(Text(kernel), provider, *shown)
    return table


def _figure(value: float) -> str:
    """Return a number with three digits that count, and no exponent but of what is tiny."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
