"""A protocol's datasets: opened where they are prepared, made where they are generated."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from melp_bench.code_digest import code_digest
from melp_bench.components import Dataset
from melp_bench.errors import UserError
from melp_bench.plugins import Catalogue
from melp_bench.progress import Listener
from melp_bench.protocol import DatasetUse, Protocol
from melp_bench.registry import Entry
from melp_bench.store import Store, open_store, prepare, store_path


def open_stores(protocol: Protocol, catalogue: Catalogue, listener: Listener, workers: int) -> dict[str, Store]:
    """Return the store of every dataset of the protocol, by alias.

    Raises:
        UserError: a dataset that is read from files was not prepared; the command that does it is named.
    """
    entries = {alias: catalogue.datasets[use.dataset] for alias, use in protocol.datasets.items()}
    return {alias: open_one(entry, protocol.datasets[alias], listener, workers) for alias, entry in entries.items()}


def unprepared(protocol: Protocol, catalogue: Catalogue) -> dict[str, str]:
    """Return, for every dataset of the protocol without a store to open, what must be done first, by alias; makes nothing."""
    found: dict[str, str] = {}
    for alias, use in protocol.datasets.items():
        entry = catalogue.datasets[use.dataset]
        dataset, _, path = _built(entry, use)
        if _stored(dataset, path, code_digest(entry)) is None:
            found[alias] = (
                f"first: {_command(entry.name, use)}" if dataset.reads_files else "it is to be made, which the run does"
            )
    return found


def open_one(entry: Entry[Dataset], use: DatasetUse, listener: Listener, workers: int) -> Store:
    """Return the store of one dataset, made now if it makes its records itself and is not there.

    Raises:
        UserError: it is read from files and was not prepared, or by another version of its plugin.
    """
    dataset, options, path = _built(entry, use)
    code = code_digest(entry)
    store = _stored(dataset, path, code)
    if store is not None:
        if store.manifest.code not in ("", code):
            listener.say(f"{entry.name}: code changed since its store was prepared; to read again: {_command(entry.name, use)}")
        return store
    if dataset.reads_files:
        raise UserError(_absence(entry.name, dataset, path, use))
    with listener.stage(f"corpus {entry.name}", "rec") as advance:
        return prepare(
            dataset,
            name=entry.name,
            source=None,
            options=options,
            workers=workers,
            progress=lambda done, total: advance(done, total, ""),
            tell=listener.say,
            code=code,
        )


def _built(entry: Entry[Dataset], use: DatasetUse) -> tuple[Dataset, dict[str, Any], Path]:
    """Return the dataset with the protocol's options, these with their defaults, and where its store is or will be."""
    options = entry.resolve(use.options)
    return entry.build(**options), options, store_path(entry.name, options)


def _stored(dataset: Dataset, path: Path, code: str) -> Store | None:
    """Return the store at `path` as it is of `dataset`; None if there is none of its version or, of a generated one, its code.

    Its tasks are the plugin's of today, so that a changed prompt is read at once; where a dataset knows its tasks from its
    files alone, they are those that the store was made with.
    """
    if not (path / "store.json").is_file():
        return None
    store = open_store(path)
    if store.manifest.version != dataset.version or (not dataset.reads_files and store.manifest.code not in ("", code)):
        return None
    store.tasks = dict(dataset.tasks) or store.tasks
    return store


def _absence(name: str, dataset: Dataset, path: Path, use: DatasetUse) -> str:
    """Return why there is no store of a dataset that is read from files, and what makes it."""
    if not (path / "store.json").is_file():
        return f"dataset {name!r} is not prepared; run: {_command(name, use)}"
    had = open_store(path).manifest.version
    return (
        f"the store of {name!r} was prepared from version {had!r}, and the plugin reads {dataset.version!r}; "
        f"run: {_command(name, use)}"
    )


def _command(name: str, use: DatasetUse) -> str:
    flags = "".join(f" --option {shlex.quote(f'{option}={_typed(value)}')}" for option, value in use.options.items())
    return f"melp-bench data prepare {name} --from DIR{flags}"


def _typed(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if not isinstance(value, list | tuple):
        return str(value)
    plain = all(isinstance(part, str) and "," not in part and part == part.strip() for part in value)
    return ",".join(value) if plain else json.dumps(list(value), ensure_ascii=False)
