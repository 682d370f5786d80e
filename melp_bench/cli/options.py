"""KEY=VALUE on the command line, read in one place."""

from __future__ import annotations

from collections.abc import Sequence

from melp_bench.errors import UserError


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


def num_workers(asked: int) -> int:
    """Return how many processes make or read records: what was asked for, or one per core."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or cores
