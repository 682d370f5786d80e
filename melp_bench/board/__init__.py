"""Result records become boards: Markdown, one self-contained HTML file, CSV, Parquet and LaTeX. Nothing here needs torch."""

from melp_bench.board.terminal import terminal_tables
from melp_bench.board.write import board_files, stale_files, write_board, write_parquet

__all__ = ["board_files", "stale_files", "terminal_tables", "write_board", "write_parquet"]
