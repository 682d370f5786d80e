"""Which records of a store are quarantined or look wrong, with the reasons: as a table that fits the screen, and as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from melp_bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from melp_bench.store import Store

MOST_SHOWN = 200
Row = tuple[str, str, str]
"""Record, code, and what is said of it."""


def quarantined_records(store: Store) -> list[Row]:
    """Return the records that could not be used, in the dataset's order."""
    import pyarrow.parquet as pq

    rows = pq.read_table(store.root / "quarantine.parquet").to_pylist()
    return [(row["record_id"], row["code"], row["detail"]) for row in rows]


def flagged_records(store: Store) -> list[Row]:
    """Return a row for each thing that looks wrong in a record and was left, in the dataset's order."""
    found = []
    for record, flags in zip(store.record_ids.tolist(), store.quality_flags, strict=True):
        for flag in flags:
            code, _, detail = flag.partition(": ")
            found.append((str(record), code, detail))
    return found


def show_records(console: Console, rows: list[Row], out: Path | None) -> None:
    """Print rows, or write all of them to a CSV file.

    Raises:
        UserError: the file is no CSV, or cannot be written.
    """
    from rich.table import Table
    from rich.text import Text

    if out is not None:
        from melp_bench.home import atomic_write, make_folder

        if out.suffix.lower() != ".csv":
            raise UserError(f"--out {str(out)!r} is no table; wanted a name that ends in .csv")
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("record", "code", "detail"), *rows])
        make_folder(out.parent)
        atomic_write(out, text.getvalue())
        console.print(f"wrote  {out}, {len(rows):,} rows", highlight=False, markup=False, soft_wrap=True)
        return
    if not rows:
        console.print("none", highlight=False)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("record", overflow="fold")
    table.add_column("code", no_wrap=True)
    table.add_column("detail", overflow="fold")
    for row in rows[:MOST_SHOWN]:
        table.add_row(*map(Text, row))
    console.print(table)
    if len(rows) > MOST_SHOWN:
        console.print(f"and {len(rows) - MOST_SHOWN:,} more; --out FILE.csv has them all", highlight=False)
