"""`melp-bench data leakage`: the same recording in two stores, or twice in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melp_bench.cli.screen import Screen
    from melp_bench.leakage import Duplicate
    from melp_bench.store import Store

SHOWN = 20

Named = "A prepared dataset, or the folder name of a store (see data list)."


def leakage(
    first: Annotated[str, typer.Argument(metavar="A", help=Named)],
    second: Annotated[str | None, typer.Argument(metavar="B", help=f"{Named} Without it: within A.")] = None,
    every: Annotated[bool, typer.Option("--all", help=f"Show every pair, not the first {SHOWN}.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.csv", help="Write every pair as CSV.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that make fingerprints; 0: one per core.")] = 0,
) -> None:
    """List the recordings that two stores share, or that one holds twice, whatever their rate, gain, leads or length."""
    from rich.console import Console

    from melp_bench.cli.options import num_workers
    from melp_bench.cli.screen import Screen
    from melp_bench.cli.stores import find_store
    from melp_bench.home import atomic_write
    from melp_bench.store import open_store

    screen = Screen(Console())
    store = open_store(find_store(first))
    other = store if second is None else open_store(find_store(second))
    found = _search(store, None if other.root == store.root else other, num_workers(workers), screen)
    if out is not None:
        atomic_write(out, _csv(store, other, found))
    _show(screen, store, other, found, len(found) if every else SHOWN)
    _sum_up(screen, store, other, found)
    if out is not None:
        screen.say(f"pairs  {out}")


def _search(store: Store, other: Store | None, workers: int, screen: Screen) -> list[Duplicate]:
    """Return the duplicates, with a bar for each of the three steps that has something to do."""
    from contextlib import ExitStack

    from melp_bench.leakage import Watch, find_duplicates
    from melp_bench.progress import stage_if_needed
    from melp_bench.store import Progress

    with ExitStack() as shown:

        def bar(what: str, unit: str) -> Progress:
            advance = shown.enter_context(stage_if_needed(screen, what, unit))
            return lambda done, total: advance(done, total, "")

        watch = Watch(bar("fingerprint", "rec"), bar("look up", "rec"), bar("compare", "pairs"))
        return find_duplicates(store, other, workers=workers, watch=watch)


def _show(screen: Screen, store: Store, other: Store, found: Sequence[Duplicate], most: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from melp_bench.cli.tables import print_whole

    if not found:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (store.root.name, "fold", other.root.name, "fold", "begins", "compared", "waves", "variation"):
        table.add_column(column, justify="left" if column in (store.root.name, other.root.name) else "right", overflow="fold")
    for one in found[:most]:
        table.add_row(
            Text(str(store.record_ids[one.first])),
            str(store.folds[one.first]),
            Text(str(other.record_ids[one.second])),
            str(other.folds[one.second]),
            f"{one.offset_s:+.2f} s",
            f"{one.seconds:.1f} s",
            f"{one.waves:.4f}",
            f"{one.variation:.3f}",
        )
    print_whole(screen.console, table)
    if len(found) > most:
        screen.say(f"and {len(found) - most:,} more; --all shows them")


def _sum_up(screen: Screen, store: Store, other: Store, found: Sequence[Duplicate]) -> None:
    from melp_bench.leakage import num_without_fingerprint

    if other is store:
        crossing = sum(int(store.folds[one.first] != store.folds[one.second]) for one in found)
        screen.say(
            f"{store.root.name}  {len(found):,} pairs of {len(store):,} records are one recording, {crossing:,} across folds"
        )
    else:
        here, there = len({one.first for one in found}), len({one.second for one in found})
        screen.say(
            f"{here:,} of {len(store):,} records of {store.root.name} are among those of {other.root.name}, "
            f"{there:,} of {len(other):,} the other way round"
        )
    for one in dict.fromkeys((store, other)):
        if mute := num_without_fingerprint(one):
            screen.say(f"{one.root.name}  {mute:,} records are too short (under 3 s) or without beats: not compared")


def _csv(store: Store, other: Store, found: Sequence[Duplicate]) -> str:
    """Return every pair as a line."""
    import csv
    import io

    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["record_a", "fold_a", "record_b", "fold_b", "begins_s", "compared_s", "waves", "variation"])
    for one in found:
        a, b = one.first, one.second
        numbers = [f"{one.offset_s:.3f}", f"{one.seconds:.2f}", f"{one.waves:.5f}", f"{one.variation:.5f}"]
        writer.writerow([store.record_ids[a], store.folds[a], other.record_ids[b], other.folds[b], *numbers])
    return file.getvalue()
