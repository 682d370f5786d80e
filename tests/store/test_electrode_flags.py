"""Exchanged electrodes: told where the beats say so and nothing else explains it; chest leads in another order have a code."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from melp_bench.lead_identity import exchanged_electrodes, lead_slopes
from melp_bench.leads import LEADS
from melp_bench.store.electrode_flags import CHEST, chest_order, electrode_flags, qrs_seconds
from melp_plugins.datasets.ludb import LUDB

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
needs_records = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ludb/")
WIDE = (" complete left bundle branch block", " complete right bundle branch block", "ventricular pacing")
Array = NDArray[np.float64]
Slopes = dict[str, Array]


@pytest.fixture(scope="module")
def ludb() -> list[tuple[Slopes, float, str]]:
    """Return slopes, rate and statements of every second record of LUDB."""
    source, dataset, found = Path(REAL or "") / "ludb", LUDB(), []
    for info in list(dataset.infos(source))[1::2]:
        signal = dataset.signal(source, info)
        slopes = lead_slopes(signal.millivolts.astype(np.float64), signal.leads, signal.rate_hz)
        found.append((slopes, signal.rate_hz, " ".join(info.statements)))
    return found


def reordered(slopes: Slopes, order: tuple[int, ...]) -> Slopes:
    return slopes | {lead: slopes[CHEST[row]] for lead, row in zip(CHEST, order, strict=True)}


def exchanged_arms(slopes: Slopes) -> Slopes:
    """Return what the slopes are with the arms' electrodes exchanged: I upside down, II and III, aVR and aVL for each other."""
    pairs = {"I": -slopes["I"], "II": slopes["III"], "III": slopes["II"], "aVR": slopes["aVL"], "aVL": slopes["aVR"]}
    return slopes | pairs


@needs_records
def test_untouched_chest_leads_are_in_their_order(ludb: list[tuple[Slopes, float, str]]) -> None:
    assert [chest_order(slopes) for slopes, _, _ in ludb].count("") == len(ludb)


@needs_records
@pytest.mark.parametrize(
    ("order", "code"), [((5, 4, 3, 2, 1, 0), "reversed-chest-leads"), ((5, 1, 2, 3, 4, 0), "V1-V6-exchanged")]
)
def test_chest_leads_in_another_order_have_a_code(
    order: tuple[int, ...], code: str, ludb: list[tuple[Slopes, float, str]]
) -> None:
    """They raised no flag."""
    assert np.mean([chest_order(reordered(slopes, order)) == code for slopes, _, _ in ludb]) >= 0.93


@needs_records
def test_exchanged_arms_are_told_where_qrs_is_narrow_and_qualified_where_it_is_wide(
    ludb: list[tuple[Slopes, float, str]],
) -> None:
    """Pacing and blocks raised the same alarm as electrodes."""
    told = [electrode_flags(exchanged_arms(slopes), rate) for slopes, rate, _ in ludb]
    assert np.mean([bool(flags) for flags in told]) >= 0.95
    assert np.mean(["exchanged-electrodes" in flags for flags in told]) >= 0.85
    untouched = [electrode_flags(slopes, rate) for slopes, rate, _ in ludb]
    assert not any("exchanged-electrodes" in flags for flags in untouched)
    assert any(flags for flags in untouched), "one record is paced, and says that limbs contradict the chest"


@needs_records
def test_wide_qrs_is_that_of_blocks_and_pacemakers(ludb: list[tuple[Slopes, float, str]]) -> None:
    wide = {True: [], False: []}
    for slopes, rate, said in ludb:
        wide[any(word in said for word in WIDE)].append(qrs_seconds(slopes, rate))
    assert np.median(wide[True]) > np.quantile(wide[False], 0.9)


def test_the_length_of_a_made_qrs_is_measured() -> None:
    rate, x = 500.0, np.zeros((12, 5000))
    for beat in range(250, 5000, 500):
        x[:, beat : beat + 50] = np.sin(np.arange(50) / 50 * 2 * np.pi)  # 100 ms
    assert qrs_seconds(lead_slopes(x, LEADS, rate), rate) == pytest.approx(0.12, abs=0.03)


def test_a_lead_that_lacks_or_is_dead_is_judged_by_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((12, 1000))
    slopes = lead_slopes(x, LEADS, 500.0)
    slopes["V3"] = slopes["V3"] * 0
    assert chest_order(slopes) == ""
    assert chest_order({lead: row for lead, row in slopes.items() if lead != "II"}) == ""
    assert not exchanged_electrodes({"I": x[0]})
