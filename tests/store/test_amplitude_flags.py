"""Amplitudes and stretches that no heart makes: thresholds stand where the distribution of real records ends."""

from __future__ import annotations

import csv
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from made_waves import beats

from melp_bench.leads import LEADS
from melp_bench.records import BadRecord, Signal
from melp_bench.store.pack import pack
from melp_plugins.datasets.ptb_xl import PTBXL
from melp_plugins.datasets.wfdb_files import read_wfdb

SAMPLE, MORE = os.environ.get("MELP_BENCH_PTBXL_SAMPLE"), os.environ.get("MELP_BENCH_MORE_ECG")
needs_sample = pytest.mark.skipif(not SAMPLE, reason="set MELP_BENCH_PTBXL_SAMPLE to a folder of PTB-XL's 100 Hz records")
NEW = {"small-amplitude", "large-amplitude", "large-excursion", "constant-stretch", "partly-flat-leads"}
EVERY = 8


def codes(signal: Signal) -> set[str]:
    return {flag.partition(":")[0] for flag in pack(signal).quality_flags}


def made(x: np.ndarray) -> set[str]:
    return codes(Signal(x.astype(np.float32), 500.0, LEADS))


def test_half_a_record_of_zeros_is_flagged_and_says_for_how_long() -> None:
    """It raised no flag."""
    x = beats()
    x[:, 2500:] = 0.0
    flags = pack(Signal(x.astype(np.float32), 500.0, LEADS)).quality_flags
    assert "constant-stretch: 5.0 s in all leads" in flags
    assert any(flag.startswith("partly-flat-leads: I, II") for flag in flags)


def test_a_lead_that_is_off_for_two_seconds_is_named() -> None:
    x = beats()
    x[8, 1000:2000] = x[8, 1000]
    flags = pack(Signal(x.astype(np.float32), 500.0, LEADS)).quality_flags
    assert flags == ("partly-flat-leads: V3",)


def test_an_electrode_that_was_touched_is_named() -> None:
    x = beats()
    x[7, 1200:1230] += 20
    assert "large-excursion" in made(x)


def test_plain_beats_are_neither_small_nor_large() -> None:
    assert made(beats()) == set()
    assert made(beats() * 10) >= {"large-amplitude"}
    assert made(beats() / 4.88) == {"small-amplitude"}


@cache
def sampled() -> list[Signal]:
    """Return every eighth record of the sample."""
    source, dataset = Path(SAMPLE or ""), PTBXL(rate=100)
    signals = []
    for info in list(dataset.infos(source))[::EVERY]:
        try:
            signals.append(dataset.signal(source, info))
        except BadRecord:
            continue
    return signals


@needs_sample
def test_at_most_one_real_record_in_a_hundred_is_flagged() -> None:
    assert np.mean([bool(codes(signal) & NEW) for signal in sampled()]) <= 0.01


@needs_sample
@pytest.mark.parametrize(("gain", "code", "least"), [(5, "large-amplitude", 0.9), (1 / 4.88, "small-amplitude", 0.95)])
def test_a_gain_that_is_wrong_is_flagged(gain: float, code: str, least: float) -> None:
    """Spans of 6 to 27 mV, and of a quarter of a millivolt, raised no flag."""
    some = sampled()[::4]
    scaled = [Signal(signal.millivolts * np.float32(gain), signal.rate_hz, signal.leads) for signal in some]
    assert np.mean([code in codes(signal) for signal in scaled]) >= least


@pytest.mark.skipif(not MORE, reason="set MELP_BENCH_MORE_ECG to the folder with cinc2011-set-a/")
def test_flags_and_quarantine_agree_with_those_who_looked_at_the_challenges_records() -> None:
    """Of all 939: 0.84 of the unacceptable and 0.92 of the acceptable are told, an accuracy of 0.91.

    The Challenge's best entries reached 0.90 to 0.93. This packaging has aVL and aVF under each other's names in nearly all
    records, which is flagged and left out here.
    """
    source, told = Path(MORE or "") / "cinc2011-set-a", {"acceptable": [], "unacceptable": []}
    with (source / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["quality"] in told and not row["duplicate_of"]]
    for row in rows[::3]:
        try:
            found = codes(read_wfdb(source, row["signal"])) - {"wrong-leads", "inconsistent-leads", "exchanged-electrodes"}
        except BadRecord:
            found = {"quarantined"}
        told[row["quality"]].append(bool(found))
    assert np.mean(told["unacceptable"]) >= 0.77
    assert np.mean(told["acceptable"]) <= 0.11
