"""PTB-XL at 500 Hz, at 100 Hz and as the challenge packs it: the same recordings, and every other folder holds none of them."""

from __future__ import annotations

import os
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from melp_bench.leakage import find_duplicates
from melp_bench.plugins import discover
from melp_bench.store import Store, prepare

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
pytestmark = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to a folder of real records")

STORES: dict[str, tuple[str, str, dict[str, object]]] = {
    "500": ("ptb-xl", "ptb-xl", {"rate": 500}),
    "100": ("ptb-xl", "ptb-xl", {"rate": 100}),
    "challenge": ("ptb-xl-challenge", "ptb-xl-challenge-format", {}),
    "ludb": ("ludb", "ludb", {}),
    "g12ec": ("g12ec", "georgia-g12ec", {}),
    "chapman": ("csn", "chapman-shaoxing", {}),
    "ningbo": ("csn", "ningbo", {}),
    "cpsc2018": ("cpsc2018", "cpsc2018", {}),
    "cpsc2018-original": ("cpsc2018", "cpsc2018-original-mat", {}),
    "code-15": ("code-15", "code-15/wfdb", {}),
    "code-15-mat": ("code-15", "code-15/ecg-fm-sample10", {}),
    "ptb-diagnostic": ("ptb-diagnostic", "ptb-diagnostic", {}),
}
SAME = {("500", "100"), ("500", "challenge"), ("100", "challenge")}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    root, catalogue = tmp_path_factory.mktemp("stores"), discover()
    return {
        name: prepare(
            catalogue.datasets[dataset].build(**options), name=dataset, source=Path(REAL or "") / folder, root=root / name
        )
        for name, (dataset, folder, options) in STORES.items()
    }


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))


def names(store: Store) -> list[str]:
    """Return the PTB-XL ids of its records: "HR00001" and "1" are the same."""
    return [str(int(record.removeprefix("HR"))) for record in store.record_ids.tolist()]


@pytest.mark.parametrize("pair", sorted(SAME))
def test_packagings_of_ptb_xl_share_exactly_the_records_of_one_id(stores: dict[str, Store], pair: tuple[str, str]) -> None:
    first, second = (stores[name] for name in pair)
    found = {(names(first)[one.first], names(second)[one.second]) for one in find_duplicates(first, second)}
    assert found == {(name, name) for name in set(names(first)) & set(names(second))}
    assert len(found) >= 10


def test_no_other_two_records_of_all_folders_are_called_one(stores: dict[str, Store]) -> None:
    wrong = [
        (one, other, len(found))
        for one, other in combinations_with_replacement(STORES, 2)
        if (one, other) not in SAME and (found := find_duplicates(stores[one], None if one == other else stores[other]))
    ]
    assert not wrong
