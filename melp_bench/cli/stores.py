"""Which store is meant by a name on the command line, and which are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melp_bench.cli.options import key_values
from melp_bench.errors import UserError

if TYPE_CHECKING:
    from melp_bench.components import Dataset
    from melp_bench.store.layout import StoreManifest


def options_of_dataset(given: Sequence[str] | None) -> dict[str, str]:
    """Return the options of a dataset as they were typed."""
    return key_values(given, form="NAME=VALUE", example="rate=100")


def build_dataset(
    name: str, given: Sequence[str] | None, lists: Mapping[str, Sequence[str] | None] | None = None
) -> tuple[Dataset, dict[str, Any]]:
    """Return the dataset, and the options of its store with the defaults filled in.

    `lists` are options that have flags of their own.

    Raises:
        UserError: an option is unknown or wrong, or such a flag was given to a dataset without the option.
    """
    from melp_bench.plugins import discover

    entry = discover().datasets[name]
    options: dict[str, Any] = dict(options_of_dataset(given))
    for option, values in (lists or {}).items():
        if values:
            if option not in entry.options():
                raise UserError(
                    f"dataset {name!r} takes no --{option.removesuffix('s')}; its table and leads are the publisher's"
                )
            options[option] = tuple(values)
    resolved = entry.resolve(options)
    return entry.build(**resolved), resolved


def manifests() -> tuple[list[tuple[Path, StoreManifest]], dict[str, str]]:
    """Return the finished stores, folder and manifest, and what is wrong with those that cannot be read, by folder name."""
    from melp_bench.home import home
    from melp_bench.store.layout import read_manifest

    stores, broken = [], {}
    for path in sorted((home() / "stores").glob("*/store.json")):
        try:
            stores.append((path.parent, read_manifest(path.parent)))
        except UserError as error:
            broken[path.parent.name] = str(error)
    return stores, broken


def _has_options(manifest: StoreManifest, asked: Mapping[str, str]) -> bool:
    """Return True if a store was made with the options that were typed; of a dataset that is not there, as text."""
    from melp_bench.canonical import canonical_json
    from melp_bench.plugins import discover

    datasets = discover().datasets
    if not asked or manifest.name not in datasets:
        return all(str(manifest.options.get(option)) == value for option, value in asked.items())
    entry = datasets[manifest.name]
    missing = {name: manifest.options[name] for name in entry.options() if name in manifest.options and name not in asked}
    meant = entry.resolve({**missing, **asked})
    return all(canonical_json(meant[option]) == canonical_json(manifest.options.get(option)) for option in asked)


def find_store(name: str, given: Sequence[str] | None = None) -> Path:
    """Return the folder of the one store that is meant.

    Raises:
        UserError: no store has this name, or several have.
    """
    from melp_bench.plugins import discover
    from melp_bench.registry import nearest

    stores, broken = manifests()
    asked = options_of_dataset(given)
    found = [folder for folder, manifest in stores if name in (folder.name, manifest.name) and _has_options(manifest, asked)]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(folder.name for folder in found)
        raise UserError(f"{len(found)} stores fit {name!r}: {several}; give one of these names, or --option NAME=VALUE")
    if spoilt := [reason for folder, reason in broken.items() if folder == name or folder.startswith(f"{name}-")]:
        raise UserError(spoilt[0])
    if name not in discover().datasets:
        known = [manifest.name for _, manifest in stores] + [entry.name for entry in discover().datasets]
        raise UserError(f"no dataset or store named {name!r}{nearest(name, known)} `melp-bench data list` shows them")
    wanted = " with these options" if asked else ""
    raise UserError(f"no prepared store of {name!r}{wanted}; make it: melp-bench data prepare {name} --from DIR")
