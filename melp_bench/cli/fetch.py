"""`melp-bench data fetch`: an open dataset from its own server, with its licence first."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melp_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melp_bench.cli.screen import Screen
    from melp_bench.components import Dataset
    from melp_bench.fetch import FetchOutcome
    from melp_bench.registry import Entry

_SHOWN = 10


def fetch(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A dataset that its source serves to everyone.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder for the native files.")],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="PATTERN", help="Only these files, as records100 or '*.hea'; may be repeated."),
    ] = None,
    mirror: Annotated[
        str, typer.Option("--mirror", metavar="URL", help="Another address of the same files; digests come from the source.")
    ] = "",
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Files at a time.")] = 8,
) -> None:
    """Fetch a dataset's files and check them against the source's digests; a run that was stopped goes on where it was."""
    from rich.console import Console

    from melp_bench.cli.screen import Screen
    from melp_bench.fetch import fetch as bring
    from melp_bench.fetch import refuse_secrets
    from melp_bench.plugins import discover

    entry = discover().datasets[dataset]
    offered = entry.build(**entry.resolve({}))
    if offered.download is None:
        raise UserError(_by_hand(entry, offered))
    if mirror and not mirror.startswith(("http://", "https://")):
        raise UserError(f"--mirror {mirror!r} is no address; wanted https://...")
    refuse_secrets(mirror)
    screen = Screen(Console())
    screen.say(f"{dataset} {offered.version}")
    screen.say(f"licence {offered.licence}")
    screen.say(f"cite    {offered.citation}")
    screen.say(f"from    {mirror or offered.homepage or offered.download.url}")
    stage = partial(screen.stage, f"fetch {dataset}")
    outcome = bring(offered.download, to, only=only or (), mirror=mirror, jobs=jobs, stage=stage)
    _tell(screen, outcome)
    if outcome.failed:
        screen.say("what came is kept; the same command tries the rest again")
        raise typer.Exit(1)
    screen.say(f"next    melp-bench data prepare {dataset} --from {to}")


def _tell(screen: Screen, outcome: FetchOutcome) -> None:
    """Say what came, what was wrong and what did not come."""
    speech = f"fetched {outcome.fetched:,} files ({outcome.num_bytes / 1e6:,.1f} MB)"
    screen.say(
        f"{speech}, {outcome.kept:,} were there" + (f", {len(outcome.failed):,} could not be had" * bool(outcome.failed))
    )
    _list(screen, "replaced", outcome.replaced)
    _list(screen, "failed", outcome.failed)


def _list(screen: Screen, word: str, lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN]:
        screen.say(f"{word:<8} {line}")
    if len(lines) > _SHOWN:
        screen.say(f"{word:<8} and {len(lines) - _SHOWN:,} more")


def _by_hand(entry: Entry[Dataset], dataset: Dataset) -> str:
    """Return where a dataset comes from that cannot be fetched."""
    if not dataset.reads_files:
        return f"{entry.name!r} is generated, there is nothing to fetch: melp-bench data prepare {entry.name}"
    if not dataset.homepage:
        return f"{entry.name!r} has no address of its own: melp-bench data prepare {entry.name} --from DIR reads your folder"
    return (
        f"{entry.name!r} is not served to everyone; {dataset.homepage} says how to get it (licence: {dataset.licence}), then: "
        f"melp-bench data prepare {entry.name} --from DIR"
    )
