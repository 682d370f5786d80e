"""`melp-bench embed`: the features of a model on a prepared dataset, as Parquet."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from melp_bench.cli.options import Device, Settings, settings
from melp_bench.cli.stores import find_store


def embed(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint folder, ENCODER@FILE, or an encoder with own weights.")
    ],
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A prepared dataset, or its store by name.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of Parquet files, such as features.parquet.")],
    scale: Annotated[
        Literal["record", "segments", "tokens"],
        typer.Option("--scale", help="record: embedding and record alone; else segments or tokens, too."),
    ] = "record",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of the dataset's store.")
    ] = None,
    change: Settings = None,
    device: Device = "auto",
) -> None:
    """Write the features of every record of a dataset, with ids and folds; what is there already is not made again.

    Processes that torchrun started share the shards among them.
    """
    from melp_bench.cli.run_output import quiet_console
    from melp_bench.cli.screen import Screen
    from melp_bench.runs.feature_files import write_features
    from melp_bench.runs.loaded import load
    from melp_bench.runs.ranks import num_ranks
    from melp_bench.runs.training import make_fabric
    from melp_bench.store import open_store

    store, screen = open_store(find_store(dataset, option)), Screen(quiet_console())
    fabric = make_fabric(device, "32") if num_ranks() > 1 else None
    with fabric.rank_zero_first() if fabric else nullcontext():  # the first imports a published file
        loaded = load(model, settings=settings(change), device=device)
    with screen.stage(f"embed {loaded.name}", "rec") as advance:
        files = write_features(
            loaded,
            store,
            out,
            scale=None if scale == "record" else scale,
            advance=lambda done, total: advance(done, total, ""),
            tell=screen.say,
            rank=fabric.global_rank if fabric else 0,
            ranks=fabric.world_size if fabric else 1,
        )
    if fabric:
        fabric.barrier()
    screen.say(f"features  {out}, {len(store):,} records in {len(files)} {'file' if len(files) == 1 else 'files'}")
    screen.say(f'read      pandas.read_parquet("{out}")')
