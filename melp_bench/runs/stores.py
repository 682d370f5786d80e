"""A protocol's datasets: opened where they are prepared, made where they are generated."""

from __future__ import annotations

from melp_bench.components import Dataset
from melp_bench.errors import UserError
from melp_bench.plugins import Catalogue
from melp_bench.progress import Listener
from melp_bench.protocol import DatasetUse, Protocol
from melp_bench.registry import Entry
from melp_bench.store import Store, configured, open_store, prepare, store_path


def open_stores(protocol: Protocol, catalogue: Catalogue, listener: Listener, workers: int) -> dict[str, Store]:
    """Return the store of every dataset of the protocol, by alias.

    Raises:
        UserError: a dataset that is read from files was not prepared; the command that does it is named.
    """
    entries = {alias: catalogue.datasets[use.dataset] for alias, use in protocol.datasets.items()}
    return {alias: open_one(entry, protocol.datasets[alias], listener, workers) for alias, entry in entries.items()}


def unprepared(protocol: Protocol, catalogue: Catalogue) -> dict[str, str]:
    """Return, for every dataset of the protocol without a finished store, what must be done first, by alias."""
    found: dict[str, str] = {}
    for alias, use in protocol.datasets.items():
        entry = catalogue.datasets[use.dataset]
        dataset, options = configured(entry, use.options)
        if not (store_path(entry.name, options) / "store.json").is_file():
            found[alias] = (
                "it is to be made, which the run does" if dataset.generated else f"first: {_command(entry.name, use)}"
            )
    return found


def open_one(entry: Entry[Dataset], use: DatasetUse, listener: Listener, workers: int) -> Store:
    """Return the store of one dataset, made now if it is generated and not there; its tasks are as the plugin has them today.

    Raises:
        UserError: it is read from files and was not prepared, or by another version of its plugin.
    """
    dataset, options = configured(entry, use.options)
    path = store_path(entry.name, options)
    if (path / "store.json").is_file():
        store = open_store(path)
        if store.manifest.version == dataset.version:
            store.tasks = dict(dataset.tasks)
            return store
        if not dataset.generated:
            raise UserError(
                f"the store of {entry.name!r} was prepared from version {store.manifest.version!r}, and the plugin reads "
                f"{dataset.version!r}; run: {_command(entry.name, use)}"
            )
    if not dataset.generated:
        raise UserError(f"dataset {entry.name!r} is not prepared; run: {_command(entry.name, use)}")
    with listener.stage(f"corpus {entry.name}", "rec") as advance:
        return prepare(
            dataset,
            name=entry.name,
            source=None,
            options=options,
            workers=workers,
            progress=lambda done, total: advance(done, total, ""),
            tell=listener.say,
        )


def _command(name: str, use: DatasetUse) -> str:
    flags = "".join(f" --option {option}={value}" for option, value in use.options.items())
    return f"melp-bench data prepare {name} --from DIR{flags}"
