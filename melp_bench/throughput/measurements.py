"""Measured figures as one long table, `measurements.csv`: a row for each figure of each kernel. Nothing here needs torch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder

FILE = "measurements.csv"
NUMBERS = ("x", "median", "low", "high")


@dataclass(frozen=True)
class MeasuredFigure:
    """One figure: what was measured of which kernel, and where.

    Attributes:
        kernel: an encoder's name; "matmul" or "copy" for what the device can do.
        provider: how it was run: "eager float32", "eager bfloat16", "compiled float32".
        mode: "forward" or "train".
        metric: with its unit: "records_per_second", "backward_ms", "peak_bytes", "floor_fraction".
        x: records of a call; for "matmul" and "copy" the size.
        median, low, high: of repeats, with quartiles; all the same where nothing repeats.
        device: with its threads.
        version: of torch and of this package.
    """

    kernel: str
    provider: str
    mode: str
    metric: str
    x: float
    median: float
    low: float
    high: float
    device: str
    version: str

    @property
    def key(self) -> tuple[str | float, ...]:
        """What was measured, and where: measuring it again replaces the row."""
        return (self.device, self.version, self.kernel, self.provider, self.mode, self.metric, self.x)


HEADER = [field.name for field in fields(MeasuredFigure)]


def read_measurements(folder: Path) -> list[MeasuredFigure]:
    """Return the rows of `folder`/measurements.csv; none if there is no such file.

    Raises:
        UserError: a line is no such row.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    lines = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8", errors="replace")), restval="")
    if lines.fieldnames != HEADER:
        raise UserError(f"{str(path)!r} has the columns {lines.fieldnames}; wanted {HEADER}. Delete it and measure again")
    found = []
    for line in lines:
        try:
            row = MeasuredFigure(**line | {name: float(line[name]) for name in NUMBERS})  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            raise UserError(f"{str(path)!r}, line {lines.line_num}: not a row; delete the line and measure again") from error
        if not all(math.isfinite(getattr(row, name)) for name in NUMBERS):
            raise UserError(f"{str(path)!r}, line {lines.line_num}: a number is not finite; delete the line and measure again")
        found.append(row)
    return found


def write_measurements(rows: Iterable[MeasuredFigure], folder: Path) -> list[MeasuredFigure]:
    """Write rows to `folder`/measurements.csv in place of those of the same key, sorted, whole or not at all; return all."""
    merged = {row.key: row for row in [*read_measurements(folder), *rows]}
    kept = [merged[key] for key in sorted(merged)]
    text = io.StringIO()
    table = csv.DictWriter(text, HEADER, lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) | {name: f"{getattr(row, name):.6g}" for name in NUMBERS} for row in kept)
    atomic_write(make_folder(folder) / FILE, text.getvalue())
    return kept
