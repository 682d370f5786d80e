"""Boards on disk: what the files are to be, whether they are stale, and writing them whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from melp_bench.board.arrangement import build_board
from melp_bench.board.html import render_pages
from melp_bench.board.markdown import render_markdown
from melp_bench.board.methods_by_tasks import FILE as METHODS_BY_TASKS
from melp_bench.board.methods_by_tasks import render_methods_by_tasks
from melp_bench.board.pages import PAGES, PART_NAME
from melp_bench.board.speed import speed_tables
from melp_bench.board.spreadsheet import render_csv, render_parquet
from melp_bench.board.statistics import render_statistics
from melp_bench.board.typeset import render_latex
from melp_bench.home import atomic_write, make_folder
from melp_bench.results import ResultRecord
from melp_bench.throughput.rows import SpeedRow, read_speeds

RESULTS = "results"
SPEEDS = "throughput"  # the folder beside a board's files where measured speeds are found


def board_files(
    records: Iterable[ResultRecord],
    speeds: Iterable[SpeedRow] = (),
    results: Path | None = None,
    beside: Sequence[str] = (),
) -> dict[str, bytes]:
    """Return the board's files by name; equal rows give equal bytes, in whatever order they come.

    `results` is the folder that the rows are from: what is made of their predictions is in the board where those are there.
    `beside` are pages in the board's folder that it leads to, see `pages_beside`.
    """
    sections = build_board(records)
    measured = speed_tables(speeds)
    return {
        "README.md": render_markdown(sections, measured).encode(),
        **{name: page.encode() for name, page in render_pages(sections, measured, results, beside).items()},
        "board.csv": render_csv(sections).encode(),
        METHODS_BY_TASKS: render_methods_by_tasks(sections).encode(),
        "board.tex": render_latex(sections).encode(),
        "statistics.json": render_statistics(sections).encode(),
    }


def write_board(records: Iterable[ResultRecord], out: Path, results: Path | None = None) -> list[Path]:
    """Write the board, with the speeds found in `out`, there and return the paths; a file that is right is left alone.

    `results` is the folder that the rows are from, by default that in `out`.

    Raises:
        UserError: a file of a result or speed is no row, or `out` cannot be written.
    """
    files = board_files(records, read_speeds(out / SPEEDS), results or out / RESULTS, pages_beside(out))
    make_folder(out)
    for name in stale_files(files, out):
        atomic_write(out / name, files[name])
    for path in out.glob("s*.html"):
        if PART_NAME.fullmatch(path.name) and path.name not in files:
            path.unlink()  # a part of a larger board that was here
    return [out / name for name in files]


def pages_beside(out: Path) -> list[str]:
    """Return the pages of `PAGES` in a board's folder, from there."""
    return sorted(path.relative_to(out).as_posix() for folder in PAGES for path in out.glob(f"{folder}/*.html"))


def write_parquet(records: Iterable[ResultRecord], out: Path) -> Path:
    """Write the board's lines as `board.parquet` in `out`, which is no part of a board that is checked, and return its path."""
    make_folder(out)
    atomic_write(out / "board.parquet", render_parquet(build_board(records)))
    return out / "board.parquet"


def stale_files(files: dict[str, bytes], out: Path) -> list[str]:
    """Return the names of those files that are missing from `out` or say something else there."""
    return [name for name, content in files.items() if not (out / name).is_file() or (out / name).read_bytes() != content]
