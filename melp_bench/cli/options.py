"""Options that several commands have, and KEY=VALUE, read in one place."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

from melp_bench.errors import UserError

QUIET = ContextVar("QUIET", default=False)
"""Whether progress is asked to be left out, before any command."""

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="M",
        help="A recipe, RECIPE+ENCODER (RECIPE+*: all small ones), ENCODER, .toml, checkpoint folder or ENCODER@FILE.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PART.OPTION=VALUE", help="Change the recipe: encoder.layers=6, rhythm.weight=2, ..."),
]
Engine = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        metavar="OPTION=VALUE",
        help="How pretraining computes: micro_batch=16, compile=inductor, recompute=true, sharded=true.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
PublishedSplits = Annotated[
    Path | None,
    typer.Option(
        "--published-splits", metavar="DIR", help="The folder data_split of the label files that published splits are of."
    ),
]
Loggers = Annotated[
    list[str] | None,
    typer.Option("--log", metavar="LOGGER[,OPTION=VALUE]", help="Log pretraining to tensorboard, wandb, ...; may be repeated."),
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes that make or read records; 0: one per core.")]


def key_values(
    given: Sequence[str] | None, *, flag: str = "--option", form: str = "KEY=VALUE", example: str = ""
) -> dict[str, str]:
    """Return what was given with a flag as a mapping; `form` and `example` say what the flag wants.

    Raises:
        UserError: one has no "=" or no key, or a key comes twice.
    """
    options: dict[str, str] = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"{flag} {text!r} is not {form}{f', as {example}' if example else ''}")
        if key in options:
            raise UserError(f"{flag} {key!r} is given twice: {options[key]!r} and {value!r}")
        options[key] = value
    return options


def settings(given: Sequence[str] | None) -> dict[str, str]:
    """Return the changes of a recipe that were given with --set."""
    return key_values(given, flag="--set", form="PART.OPTION=VALUE", example="encoder.layers=6")


def engine(given: Sequence[str] | None) -> dict[str, str]:
    """Return the options of the engine that were given with --engine."""
    return key_values(given, flag="--engine", form="OPTION=VALUE", example="micro_batch=16")


def num_workers(asked: int) -> int:
    """Return how many processes make or read records: what was asked for, or one per core."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or cores
