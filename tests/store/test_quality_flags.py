"""What looks wrong in a record is said, and what does not is not: on made beats and on every real record."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made_waves import beats

from melp_bench.lead_identity import lead_slopes, odd_lead
from melp_bench.leads import LEADS, LIMB
from melp_bench.records import Dataset, Signal
from melp_bench.store.pack import Packed, pack
from melp_bench.store.quality_flags import saturated
from melp_plugins.datasets.code import CODE15
from melp_plugins.datasets.csn import CSN
from melp_plugins.datasets.g12ec import G12EC
from melp_plugins.datasets.ludb import LUDB
from melp_plugins.datasets.ptb_xl import PTBXL
from melp_plugins.datasets.wfdb_files import read_wfdb

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
needs_records = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ludb/ and ptb-xl/")
SOURCE = Path(REAL or "")
SOURCES: list[tuple[Dataset, str]] = [
    (LUDB(), "ludb"),
    (PTBXL(), "ptb-xl"),
    (CSN(), "ningbo"),
    (G12EC(), "georgia-g12ec"),
    (CODE15(), "code-15/wfdb"),
]
HELD_AT_THE_END = {("ptb-xl", "4"), ("ptb-xl", "6006")}
"""Their last 106 and 112 ms repeat one value in every lead, far from the baseline."""


def found(x: np.ndarray, **changes: object) -> tuple[str, ...]:
    return pack(Signal(x.astype(np.float32), 500.0, LEADS, **changes)).quality_flags  # type: ignore[arg-type]


def test_plain_beats_raise_no_quality_flag() -> None:
    assert found(beats()) == ()


@pytest.mark.parametrize("lead", range(12))
def test_a_lead_of_another_unit_is_named(lead: int) -> None:
    for factor in (1e-3, 300):
        x = beats()
        x[lead] *= factor
        assert {f"odd-scale: {LEADS[lead]}", f"odd-lead: {LEADS[lead]}"} & set(found(x))


@pytest.mark.parametrize("lead", range(6))
def test_a_limb_lead_of_another_gain_is_named_where_the_others_agree(lead: int) -> None:
    x = beats()
    x[lead] *= 1.3
    assert found(x) == (f"odd-lead: {LEADS[lead]}",)


def test_where_two_limb_leads_are_of_other_gains_none_is_blamed() -> None:
    x = beats()
    x[0] *= 1.3
    x[1] *= 0.6
    assert odd_lead(lead_slopes(x, LEADS, 500)) == ""


def test_a_limb_leads_name_on_a_chest_lead_is_an_odd_lead() -> None:
    x = beats()
    x[[5, 11]] = x[[11, 5]]
    assert any(flag in ("odd-lead: aVF", "inconsistent-leads") for flag in found(x))


@pytest.mark.parametrize(("arm", "quiet"), [("right", "II"), ("left", "III")])
def test_an_arms_electrode_on_the_right_leg_leaves_a_quiet_lead(arm: str, quiet: str) -> None:
    x = beats()
    one, two = x[0], x[1]
    right, left, leg = -(one + two) / 3, (2 * one - two) / 3, (2 * two - one) / 3
    other_leg = leg + 0.03 * (right - left)  # the legs differ little
    right, left = (other_leg, left) if arm == "right" else (right, other_leg)
    x[:6] = np.array(list(LIMB.values())) @ np.stack([left - right, leg - right])
    assert f"quiet-leads: {quiet}" in found(x)


def test_an_offset_that_no_amplifier_lets_pass_is_a_quality_flag() -> None:
    x = beats()
    x[7] += 40
    assert found(x) == ("large-offset: V2",)


def test_clipped_and_held_leads_are_saturated_and_a_flat_one_is_not() -> None:
    x = beats()
    x[9] = np.minimum(x[9], 0.6 * x[9].max())
    x[7, 700:800] = x[7].max()
    x[8] = 0.25
    assert found(x) == ("flat-leads", "saturated-leads: V2, V4")


def test_a_single_peak_that_is_repeated_is_not_saturation() -> None:
    values = (beats() * 1000).astype(np.int16)
    peak = int(values[0].argmax())
    values[0, peak : peak + 10] = values[0, peak]
    assert not saturated(values, 500.0).any()


def packed(dataset: Dataset, folder: str) -> list[tuple[str, Packed]]:
    source = Path(REAL or "") / folder
    return [
        (info.record_id, pack(dataset.signal(source, info)))
        for info in dataset.infos(source)
        if (source / f"{info.path}.hea").exists()
    ]


@needs_records
@pytest.mark.parametrize(("dataset", "folder"), SOURCES, ids=[folder for _, folder in SOURCES])
def test_real_records_raise_no_doubt_of_scale_or_saturation_and_computed_faults_do(dataset: Dataset, folder: str) -> None:
    records = packed(dataset, folder)
    codes = {
        (folder, record): flag
        for record, one in records
        for flag in one.quality_flags
        if flag.split(":")[0] in ("contrary-gains", "odd-lead", "odd-scale", "quiet-leads", "large-offset", "saturated-leads")
    }
    assert set(codes) == {pair for pair in HELD_AT_THE_END if pair[0] == folder}
    clipped, scaled = [], []
    for number, (_, one) in enumerate(records):
        values = one.values.copy()
        middle = np.median(values, axis=1)
        reach = np.maximum(values.max(axis=1) - middle, middle - values.min(axis=1))
        lead = int(np.argmax(reach * one.gains))
        values[lead] = np.clip(values[lead], middle[lead] - 0.6 * reach[lead], middle[lead] + 0.6 * reach[lead])
        clipped.append(bool(saturated(values, one.rate_hz)[lead]))
        x = one.values * one.gains[:, None].astype(np.float64)
        x[number % 6] *= 1.3
        scaled.append(odd_lead(lead_slopes(x, one.leads, one.rate_hz)) != "")
    assert np.mean(clipped) >= 0.85
    assert all(scaled)


@needs_records
def test_gains_that_scale_each_lead_for_itself_are_flagged() -> None:
    folder = SOURCE / "ludb" / "data"
    told = [pack(read_wfdb(folder, path.stem)).quality_flags for path in sorted(folder.glob("*.hea"))]  # by the headers' gains
    assert np.mean(["contrary-gains" in found for found in told]) >= 0.99


def test_a_dead_limb_lead_is_no_contrary_gain() -> None:
    x = beats()
    x[LEADS.index("aVL")] = 0.0
    assert found(x) == ("flat-leads",)
