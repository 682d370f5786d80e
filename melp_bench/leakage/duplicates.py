"""Every pair of records, of two stores or within one, that is the same recording; found once, and kept."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from melp_bench.home import atomic_write, home, make_folder
from melp_bench.leakage import table as tables
from melp_bench.leakage.check import Agreement, compare
from melp_bench.leakage.search import Candidates, candidates
from melp_bench.leakage.table import fingerprint_table
from melp_bench.leakage.waves import RATE_HZ, Beats, beats
from melp_bench.store import Progress, Store

OPEN = 256
"""Records whose waves are held at a time, of either store."""

VERSION = 2
"""Raised with any change that can move what is found."""


@dataclass(frozen=True)
class Duplicate:
    """One recording that is record `first` of one store and record `second` of the other, or of the same.

    Attributes:
        offset_s: when the second record begins, in seconds after the beginning of the first.
        seconds: of signal compared.
        waves: the correlation of the two, the median over leads.
        variation: the correlation of what tells their beats apart.
    """

    first: int
    second: int
    offset_s: float
    seconds: float
    waves: float
    variation: float


@dataclass(frozen=True)
class Watch:
    """Who is told how far a search is: with records fingerprinted (of either store), records looked up, pairs compared."""

    fingerprint: Progress | None = None
    search: Progress | None = None
    check: Progress | None = None


def find_duplicates(
    first: Store, second: Store | None = None, *, workers: int = 1, watch: Watch | None = None
) -> list[Duplicate]:
    """Return the duplicates between two stores, or within the first, in the order of their positions.

    What was found before between the same contents by the same rule is read, not searched again.

    Raises:
        UserError: a store cannot be read, or what is made cannot be written.
    """
    watch = watch or Watch()
    other = second or first
    known = known_duplicates(first, other)
    if known is not None:
        return known
    table = fingerprint_table(first, workers=workers, progress=watch.fingerprint)
    other_table = table if second is None else fingerprint_table(other, workers=workers, progress=watch.fingerprint)
    within = first.fingerprint == other.fingerprint
    suspected = candidates(table, other_table, within=within, progress=watch.search)
    found = _checked(first, other, suspected, watch.check)
    path = _kept_path(first, other)
    make_folder(path.parent)
    atomic_write(path, json.dumps([asdict(one) for one in found]))
    return found


def known_duplicates(first: Store, second: Store) -> list[Duplicate] | None:
    """Return what was found before between two stores, or within one given twice; None if they were never searched."""
    try:
        return [Duplicate(**one) for one in json.loads(_kept_path(first, second).read_bytes())]
    except (OSError, ValueError, TypeError):
        return None


def _kept_path(first: Store, second: Store) -> Path:
    rule = f"v{VERSION}.{tables.VERSION}"
    return home() / "duplicates" / f"{first.fingerprint[:20]}-{second.fingerprint[:20]}-{rule}.json"


def _checked(store: Store, other: Store, found: Candidates, progress: Progress | None) -> list[Duplicate]:
    """Return those of the candidates that are the same by their signals; of several lags the one that agrees best."""
    waves, others = _Kept(store), _Kept(other)
    best: dict[tuple[int, int], Duplicate] = {}
    order = np.lexsort((found.second, found.first))
    for done, row in enumerate(order.tolist(), 1):
        pair = int(found.first[row]), int(found.second[row])
        x, y = waves[pair[0]], others[pair[1]]
        agreed = compare(x, y, (float(found.lag_s[row]) + y.begin_s - x.begin_s) * RATE_HZ)
        if agreed.same and (pair not in best or agreed.waves > best[pair].waves):
            best[pair] = _duplicate(pair, x, y, agreed)
        if progress is not None and (done % 64 == 0 or done == len(order)):
            progress(done, len(order))
    return [best[pair] for pair in sorted(best)]


def _duplicate(pair: tuple[int, int], x: Beats, y: Beats, agreed: Agreement) -> Duplicate:
    offset_s = agreed.lag / RATE_HZ + x.begin_s - y.begin_s
    return Duplicate(*pair, round(offset_s, 3) + 0.0, agreed.seconds, agreed.waves, agreed.variation)


class _Kept:
    """The waves of a store's records by position; those used last are held."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: OrderedDict[int, Beats] = OrderedDict()

    def __getitem__(self, position: int) -> Beats:
        if position not in self._held:
            self._held[position] = beats(self._store.signal(position))
            if len(self._held) > OPEN:
                self._held.popitem(last=False)
        self._held.move_to_end(position)
        return self._held[position]
