"""Stores: the table that is kept beside one, the duplicates between two, and the command that lists them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from packagings import Given, at_100_hz, changed, heart, leads_in_another_order, three_flat_leads
from typer.testing import CliRunner

from melp_bench.cli.data import app
from melp_bench.errors import UserError
from melp_bench.leakage import Watch, find_duplicates, known_duplicates, num_without_fingerprint, table
from melp_bench.leakage.table import fingerprint_table, table_path
from melp_bench.records import Signal
from melp_bench.store import Store, prepare

HEARTS = [heart(index) for index in range(12)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def store_of(home: Path, name: str, signals: dict[str, Signal], folds: dict[str, int] | None = None) -> Store:
    source = home.parent
    return prepare(Given(signals, folds), name=name, source=source, root=home / "stores" / name)


def two(home: Path) -> tuple[Store, Store]:
    """Return six records, and four of them packed again among others, one of them too short to have a code."""
    rng = np.random.default_rng(0)
    again = {"x0": HEARTS[9], "x1": at_100_hz(HEARTS[4], rng), "x2": leads_in_another_order(HEARTS[1], rng)}
    again |= {"x3": changed(HEARTS[10], HEARTS[10].millivolts[:, :400]), "x4": three_flat_leads(HEARTS[0], rng)}
    again |= {"x5": changed(HEARTS[5], HEARTS[5].millivolts[:, 500:])}
    first = store_of(home, "first", {f"r{k}": HEARTS[k] for k in range(6)})
    return first, store_of(home, "second", again)


def test_duplicates_of_two_stores_are_found_from_either_side_with_their_offset(home: Path) -> None:
    first, second = two(home)
    found = find_duplicates(first, second)
    assert [(one.first, one.second) for one in found] == [(0, 4), (1, 2), (4, 1), (5, 5)]
    assert [one.offset_s for one in found] == pytest.approx([0, 0, 0, 2.0], abs=0.01)
    assert all(one.waves > 0.95 and one.variation > 0.8 for one in found)
    back = find_duplicates(second, first)
    assert sorted((one.second, one.first) for one in back) == [(0, 4), (1, 2), (4, 1), (5, 5)]
    assert num_without_fingerprint(second) == 1
    assert num_without_fingerprint(first) == 0


def test_duplicates_within_a_store_are_found_once(home: Path) -> None:
    signals = {"a": HEARTS[0], "b": HEARTS[1], "c": HEARTS[2], "a2": changed(HEARTS[0], 2 * HEARTS[0].millivolts)}
    store = store_of(home, "one", signals)
    assert [(one.first, one.second) for one in find_duplicates(store)] == [(0, 3)]


def test_what_was_searched_is_known_and_the_table_is_made_once(home: Path) -> None:
    first, second = two(home)
    assert known_duplicates(first, second) is None
    told: list[str] = []
    watch = Watch(*((lambda done, total, what=what: told.append(what)) for what in ("made", "searched", "compared")))
    found = find_duplicates(first, second, watch=watch)
    assert set(told) == {"made", "searched", "compared"}
    told.clear()
    assert find_duplicates(first, second, watch=watch) == known_duplicates(first, second) == found
    assert not told
    for kept in (home / "duplicates").glob("*.json"):
        kept.write_text("{broken")
    assert find_duplicates(first, second, watch=watch) == found
    assert set(told) == {"searched", "compared"}


@pytest.mark.parametrize("damage", ["cut", "empty", "other rule", "other store"])
def test_a_table_that_is_damaged_or_of_something_else_is_made_again(
    home: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two(home)
    good = fingerprint_table(first)
    path = table_path(first)
    whole = path.read_bytes()
    if damage == "other rule":
        monkeypatch.setattr(table, "VERSION", table.VERSION + 1)
    elif damage == "other store":
        fingerprint_table(second)
        path.write_bytes(table_path(second).read_bytes())
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    told: list[int] = []
    again = fingerprint_table(first, progress=lambda done, total: told.append(done))
    assert told[-1] == len(first)
    np.testing.assert_array_equal(again.codes, good.codes)
    assert [p.name for p in path.parent.iterdir() if p.is_file()].count(path.name) == 1
    assert not list(path.parent.glob(".tmp-*"))


def test_several_processes_make_the_table_that_one_makes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = two(home)
    alone = fingerprint_table(first)
    table_path(first).unlink()
    monkeypatch.setattr(table, "FEW", 0)
    monkeypatch.setattr(table, "CHUNK", 2)
    together = fingerprint_table(first, workers=2)
    for part in ("codes", "seconds", "counts"):
        np.testing.assert_array_equal(getattr(alone, part), getattr(together, part))


def test_the_command_lists_pairs_and_says_what_it_did_not_compare(home: Path, tmp_path: Path) -> None:
    two(home)
    out = tmp_path / "pairs.csv"
    done = CliRunner().invoke(app, ["leakage", "first", "second", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "4 of 6 records of first are among those of second, 4 of 6 the other way round" in done.output
    assert "1 records are too short" in done.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["record_a"], row["record_b"]) for row in rows] == [("r0", "x4"), ("r1", "x2"), ("r4", "x1"), ("r5", "x5")]
    alone = CliRunner().invoke(app, ["leakage", "first"])
    assert "0 pairs of 6 records are one recording, 0 across folds" in alone.output


def test_a_store_that_is_not_there_is_named() -> None:
    done = CliRunner().invoke(app, ["leakage", "nowhere"])
    assert isinstance(done.exception, UserError)
    assert "no dataset or store named 'nowhere'" in str(done.exception)


def test_a_patient_with_an_official_fold_and_a_hashed_one_is_refused(home: Path) -> None:
    """The hash of the id would put the second record anywhere, test part included."""
    signals = {"1/p": HEARTS[0], "2/p": HEARTS[1]}
    hashed = store_of(home, "hashed", signals).folds[0]
    official = int(hashed) % 10 + 1
    with pytest.raises(UserError, match=r"patient 'p-p' is in the folds \d+ and \d+"):
        store_of(home, "mixed", signals, {"1/p": official})
    assert set(store_of(home, "same", signals, {"1/p": int(hashed)}).folds) == {hashed}
