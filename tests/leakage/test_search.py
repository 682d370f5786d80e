"""The search against looking at every pair of codes."""

from __future__ import annotations

import numpy as np
import pytest

from melp_bench.leakage import search
from melp_bench.leakage.codes import SCALE, SIZE
from melp_bench.leakage.search import RADIUS, candidates
from melp_bench.leakage.table import FingerprintTable


def made_table(seed: int, records: int, centres: int = 12) -> FingerprintTable:
    """Return codes in tight clusters, so that many pairs are near the radius; every seventh record has none."""
    rng = np.random.default_rng(seed)
    counts = np.where(np.arange(records) % 7 == 6, 0, rng.integers(1, 6, records)).astype(np.int32)
    middle = np.random.default_rng(99).normal(0, 25, (centres, SIZE))
    num = int(counts.sum())
    codes = middle[rng.integers(centres, size=num)] + rng.normal(0, 4.5, (num, SIZE))
    seconds = np.concatenate([np.sort(rng.uniform(0, 10, c)) for c in counts]).astype(np.float32)
    return FingerprintTable(np.clip(np.rint(codes), -127, 127).astype(np.int8), seconds, counts)


def by_hand(first: FingerprintTable, second: FingerprintTable) -> set[tuple[int, int]]:
    """Return the pairs of records of which one anchor's code is near another's."""
    apart = first.codes[:, None].astype(float) - second.codes[None]
    i, j = np.nonzero((apart**2).sum(axis=2) <= (RADIUS * SCALE) ** 2)
    return set(zip(first.records[i].tolist(), second.records[j].tolist(), strict=True))


@pytest.mark.parametrize("sizes", [(40, 90), (90, 40), (40, 40)])
def test_every_near_pair_is_found_whatever_is_searched_in(sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SUPPORT", 0.0)
    monkeypatch.setattr(search, "RECORDS", 16)  # several rounds
    first, second = made_table(1, sizes[0]), made_table(2, sizes[1])
    told: list[tuple[int, int]] = []
    found = candidates(first, second, progress=lambda done, total: told.append((done, total)))
    expected = by_hand(first, second)
    assert len(expected) > 50
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected
    assert told[-1][0] == told[-1][1] == max(sizes)


def test_within_a_table_every_pair_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SUPPORT", 0.0)
    monkeypatch.setattr(search, "RECORDS", 16)
    table = made_table(1, 60)
    found = candidates(table, table, within=True)
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == {
        (a, b) for a, b in by_hand(table, table) if a < b
    }


def test_lags_must_agree_and_the_most_alike_come_first() -> None:
    """Four beats of one record recur in another 2 s later; a fifth record has the beats, but at other intervals."""
    rng = np.random.default_rng(0)
    beats = rng.normal(0, 25, (4, SIZE)).round().astype(np.int8)
    first = FingerprintTable(beats, np.array([1, 2, 3.2, 4], np.float32), np.array([4], np.int32))
    others = np.concatenate([beats, beats])
    second = FingerprintTable(others, np.array([3, 4, 5.2, 6, 1, 2.5, 4.4, 6], np.float32), np.array([4, 4], np.int32))
    found = candidates(first, second)
    assert (found.first.tolist(), found.second.tolist()) == ([0], [0])
    assert found.lag_s[0] == pytest.approx(-2.0)
    assert candidates(second, first).lag_s[0] == pytest.approx(2.0)


def test_a_table_without_codes_has_no_candidates() -> None:
    empty = FingerprintTable(np.zeros((0, SIZE), np.int8), np.zeros(0, np.float32), np.zeros(3, np.int32))
    for pair in ((empty, made_table(1, 5)), (made_table(1, 5), empty), (empty, empty)):
        assert len(candidates(*pair)) == 0


def test_part_of_a_table_has_the_codes_of_its_records() -> None:
    table = made_table(4, 30)
    some = np.array([7, 3, 6, 20])
    part = table.of(some)
    assert part.counts.tolist() == table.counts[some].tolist()
    for k, record in enumerate(some.tolist()):
        np.testing.assert_array_equal(part.codes[part.records == k], table.codes[table.records == record])
