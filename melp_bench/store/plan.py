"""What a store is to be made of, as it is kept beside the work: who begins from other records or another folder begins anew."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from melp_bench.canonical import canonical_json
from melp_bench.errors import UserError
from melp_bench.locks import Tell
from melp_bench.store.layout import read_manifest
from melp_bench.store.native_files import SourceState, read_source

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class StorePlan:
    """What decides a store.

    Attributes:
        digest: of everything that is asked for and said of the records.
        source: the native files they are read from; None where records are made.
    """

    digest: str
    source: SourceState | None

    def dump(self) -> str:
        """Return the text of `plan.json`."""
        return canonical_json({"plan": self.digest, "source": self.source and asdict(self.source)})

    def is_begun(self, place: Path) -> bool:
        """Return True if a store of this plan was begun in `place`."""
        path = place / PLAN_FILE
        return path.is_file() and path.read_text(encoding="utf-8") == self.dump()

    def differs(self, folder: Path, name: str, tell: Tell, *, replace: bool) -> bool:
        """Return True if `folder` holds no finished store of this plan; why one that is there is made again is told.

        Raises:
            UserError: the store there was read from another folder, and is not to be replaced.
        """
        try:
            manifest = read_manifest(folder)
        except UserError:
            return True
        had = read_source(folder)
        if self.source is None or had == self.source:
            return manifest.plan != self.digest
        held = f"the store of {name!r} with {manifest.num_records:,} records"
        if had is None or had.folder != self.source.folder:
            origin = f"was read from {had.folder!r}" if had is not None else "does not say what it was read from"
            if not replace:
                raise UserError(f"{held} {origin}, and you gave {self.source.folder!r}; to make it again from there: --replace")
            tell(f"{held} {origin}; it is replaced by what is in {self.source.folder!r}")
        else:
            tell(f"files in {had.folder!r} were changed or added since {held} was made; it is made again")
        return True


def told_source(place: Path) -> str:
    """Return the folder from which the unfinished store in `place` was begun, "" where that is not known."""
    try:
        return str(json.loads((place / PLAN_FILE).read_text(encoding="utf-8"))["source"]["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
