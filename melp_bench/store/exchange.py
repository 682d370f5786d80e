"""A new store in the place of an old one, which stays until the new one is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from melp_bench.home import TEMPORARY
from melp_bench.store.native_files import SOURCE_FILE

NEXT = ".next"
"""The folder, in a store's, in which the one that takes its place is made."""


def finish_exchange(folder: Path) -> None:
    """Put the store that was made beside the one in `folder` in its place, if it is whole.

    A process that is killed meanwhile leaves a folder without `store.json`, and the next one goes on here.
    """
    made = folder / NEXT
    if not (made / "store.json").is_file():
        return
    (folder / "store.json").unlink(missing_ok=True)
    if (made / "shards").is_dir():
        shutil.rmtree(folder / "shards", ignore_errors=True)
        (made / "shards").replace(folder / "shards")
    for name in ("index.parquet", "quarantine.parquet", SOURCE_FILE, "store.json"):
        if (made / name).is_file():
            (made / name).replace(folder / name)
    shutil.rmtree(made)


def clear(folder: Path) -> None:
    """Remove the files of a store, and no others; `store.json` goes first, so that no half is taken for a whole."""
    for file in ("store.json", "plan.json", "index.parquet", "quarantine.parquet", SOURCE_FILE):
        (folder / file).unlink(missing_ok=True)
    for pattern in ("parts/*.json", "shards/*.i16"):
        for path in folder.glob(pattern):
            path.unlink()
    sweep(folder, done=False)


def sweep(folder: Path, *, done: bool) -> None:
    """Remove what killed processes left, and with `done` what only a beginning needs."""
    for pattern in ("", "parts/", "shards/"):
        for path in folder.glob(f"{pattern}{TEMPORARY}*"):
            path.unlink(missing_ok=True)
    if done:
        shutil.rmtree(folder / NEXT, ignore_errors=True)
        for path in folder.glob("parts/*.json"):
            path.unlink()
        if (folder / "parts").is_dir():
            (folder / "parts").rmdir()
        (folder / "plan.json").unlink(missing_ok=True)
