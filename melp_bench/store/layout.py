"""What lies where in a store, and the store's own account of itself.

store.json            what it is, how many, its fingerprint; written last
index.parquet         one row per record, in the dataset's order
quarantine.parquet    record_id, code, detail of what could not be used
source.json           the folder it was read from, and a digest of its files' names, sizes and times
shards/00000.i16      little-endian int16, records one after the other, each lead-major; millivolt = gain * value
plan.json, parts/     while it is being made: what is to be packed, and the rows of the finished shards
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from melp_bench.canonical import digest
from melp_bench.errors import UserError
from melp_bench.home import home
from melp_bench.records import Task

FORMAT = 5
Options = Mapping[str, Any]
"""Values that JSON can hold, by option."""


def store_path(name: str, options: Options) -> Path:
    """Return the folder of the store of dataset `name` built with `options` (defaults filled in)."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"dataset name {name!r} cannot name a folder; wanted letters, digits, '.', '_' and '-'")
    return home() / "stores" / (f"{name}-{digest(options)[:8]}" if options else name)


def shard_path(root: Path, number: int) -> Path:
    """Return the path of a shard."""
    return root / "shards" / f"{number:05d}.i16"


def part_path(root: Path, number: int) -> Path:
    """Return the path of the rows of a finished shard."""
    return root / "parts" / f"{number:05d}.json"


@dataclass(frozen=True)
class Shard:
    """One shard as it was written."""

    values: int
    digest: str


@dataclass(frozen=True)
class StoreManifest:
    """`store.json`."""

    format: int
    name: str
    version: str
    options: dict[str, Any]
    licence: str
    citation: str
    generated: bool
    has_official_folds: bool
    num_records: int
    num_patients: int
    quarantined: dict[str, int]
    plan: str
    index: str  # digest of all rows of the index
    data: str  # the same without what is judged of a record
    shards: list[Shard]
    tasks: list[dict[str, Any]]
    fingerprint: str = ""
    code: str = ""  # digest of the dataset's code; no part of the fingerprint, which is of what the code made
    release: str = ""  # what the source's files say they are, where that is told from them

    def sealed(self) -> StoreManifest:
        """Return the manifest with its fingerprint: signals and what is known of the records, no path, time or machine.

        Doubts are no part of it, so that a better rule makes no row of a result another one.
        Tasks are no part of it, so that a changed prompt makes nobody pretrain or embed again; see `Store.task_digest`.
        """
        shards = [shard.digest for shard in self.shards]
        content = [self.format, self.name, self.version, self.options, self.data, shards]
        return StoreManifest(**{**vars(self), "fingerprint": digest(content)})

    def dump(self) -> str:
        """Return the text of `store.json`."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_manifest(root: Path) -> StoreManifest:
    """Return the manifest of the store in `root`.

    Raises:
        UserError: there is no finished store, or it is of another format.
    """
    path = root / "store.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["format"] != FORMAT:
            raise UserError(f"store {str(root)!r} has format {fields['format']}, this version reads {FORMAT}; prepare it again")
        return StoreManifest(**{**fields, "shards": [Shard(**shard) for shard in fields["shards"]]})
    except UserError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no finished store in {str(root)!r}; make it with: melp-bench data prepare") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{str(path)!r} is not readable as a store ({error}); prepare it again with --fresh") from error


def tasks_to_json(tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    """Return tasks as JSON values; classes keep their order."""
    return [
        {
            "name": task.name,
            "keep_unlabelled": task.keep_unlabelled,
            "members": [[name, sorted(statements)] for name, statements in task.members.items()],
            "prompts": [[name, list(texts)] for name, texts in task.prompts.items()],
        }
        for task in tasks.values()
    ]


def tasks_from_json(values: list[dict[str, Any]]) -> dict[str, Task]:
    """Return the tasks by name."""
    return {
        value["name"]: Task(
            name=value["name"],
            members={name: frozenset(statements) for name, statements in value["members"]},
            prompts={name: tuple(texts) for name, texts in value["prompts"]},
            keep_unlabelled=value["keep_unlabelled"],
        )
        for value in values
    }
