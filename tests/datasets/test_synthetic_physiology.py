"""The synthetic corpus measured by others: R peaks by sleepecg, intervals by spatial velocity on averaged beats.

The intervals are measured on the twelve leads alone, not with the generator's own definitions. Beats found by sleepecg are
averaged; the root of the summed squares of all leads' slopes (spatial velocity) exceeds a small share of its peak from QRS
onset to QRS offset; P starts where the size of the average beat leaves the flat stretch before it; T ends where the steepest
tangent of its falling limb meets the baseline (Lepeschkin and Surawicz 1952).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from melp_plugins.datasets.synthetic import draw, simulate
from melp_plugins.datasets.synthetic.case import CaseParameters

sleepecg = pytest.importorskip("sleepecg")

RATE_HZ = 500.0
SECONDS = 10.0
NARROW_SINUS = frozenset({"SR", "SBRAD", "STACH"})


@cache
def cases() -> tuple[CaseParameters, ...]:
    return tuple(draw(3, index, SECONDS) for index in range(2000))


def _with(wanted: set[str], without: set[str] = frozenset(), limit: int = 20) -> list[CaseParameters]:  # type: ignore[assignment]
    found = [c for c in cases() if wanted <= c.statements and not without & c.statements][:limit]
    assert len(found) >= 4, wanted
    return found


def _quiet(case: CaseParameters) -> NDArray[np.float64]:
    """Return the case's leads (12, T) without noise and with open filters."""
    silence = np.zeros(9)
    taken = replace(
        case.recording, wander_mv=silence, muscle_mv=silence, mains_mv=silence, bumps=(), high_pass_hz=0.01, low_pass_hz=240.0,
        low_pass_order=4, notch=False, digitising_mv=0.0,
    )  # fmt: skip
    return simulate(replace(case, recording=taken), rate_hz=RATE_HZ, seconds=SECONDS).millivolts.astype(np.float64)


def _peaks(leads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R peaks in seconds by sleepecg, on the lead whose QRS stands out most: steepest for its size."""
    steepness = np.percentile(np.abs(np.diff(leads, axis=1)), 99, axis=1)
    lead = leads[np.argmax(steepness**2 / leads.std(axis=1))]
    return np.asarray(sleepecg.detect_heartbeats(lead.astype(float), RATE_HZ)) / RATE_HZ


def _average_beat(leads: NDArray[np.float64], before_s: float, after_s: float) -> NDArray[np.float64]:
    """Return the mean beat (12, T) around the steepest point of each QRS that sleepecg finds."""
    velocity = np.sqrt(np.square(np.gradient(leads, axis=1)).sum(0))
    before, after, reach = round(before_s * RATE_HZ), round(after_s * RATE_HZ), round(0.09 * RATE_HZ)
    beats: list[NDArray[np.float64]] = []
    for peak in np.round(_peaks(leads) * RATE_HZ).astype(int):
        low = max(peak - reach, 0)
        centre = low + int(np.argmax(velocity[low : peak + reach]))
        if beats:  # align to the first beat by correlation
            shifts = range(-30, 31)
            fits = [
                float((beats[0] * leads[:, centre + s - before : centre + s + after]).sum())
                if centre + s - before >= 0 and centre + s + after <= leads.shape[1]
                else -np.inf
                for s in shifts
            ]
            centre += shifts[int(np.argmax(fits))]
        if centre - before >= 0 and centre + after <= leads.shape[1]:
            beats.append(leads[:, centre - before : centre + after])
    return np.mean(beats, axis=0)


def _run(active: NDArray[np.bool_], around: int, gap: int) -> tuple[int, int]:
    """Return first and last sample of the active stretch at `around`, bridging pauses of up to `gap` samples."""
    ends = []
    for step in (-1, 1):
        last, at = around, around
        while 0 <= at < len(active) and abs(at - last) <= gap:
            last = at if active[at] else last
            at += step
        ends.append(last)
    return ends[0], ends[1]


def _intervals(case: CaseParameters) -> tuple[float, float, float]:
    """Return PR, QRS and QT in seconds as measured on the average beat."""
    leads = _quiet(case)
    rr = float(np.median(np.diff(_peaks(leads))))
    before = 0.5
    beat = _average_beat(leads, before, max(rr - 0.26, 0.45))
    velocity = np.sqrt(np.square(np.gradient(beat, axis=1) * RATE_HZ).sum(0))
    centre = round(before * RATE_HZ)
    near = velocity[centre - 40 : centre + 40]
    onset, offset = _run(velocity > 0.07 * near.max(), centre - 40 + int(np.argmax(near)), gap=9)
    size = np.sqrt(np.square(beat - beat[:, onset - 3 : onset - 2]).sum(0))
    first = offset + round(0.06 * RATE_HZ)
    t_peak = first + int(np.argmax(size[first:]))
    slope = np.gradient(size)[t_peak : t_peak + round(0.14 * RATE_HZ)]
    steep = int(np.argmin(slope))
    t_end = t_peak + steep + size[t_peak + steep] / -slope[steep]
    start = max(onset - round(0.42 * RATE_HZ), round(t_end - rr * RATE_HZ) + 12, 0)  # behind the T wave of the beat before
    steepest = start + int(np.argmax(velocity[start : onset - 10]))  # of the P wave
    flat = start + int(np.argmin(velocity[start : steepest + 1]))
    away = np.sqrt(np.square(beat - beat[:, flat : flat + 1]).sum(0))[flat : onset - 10]
    p_start = flat + int(np.flatnonzero(away > 0.12 * away.max())[0])
    return (onset - p_start) / RATE_HZ, (offset - onset) / RATE_HZ, (t_end - onset) / RATE_HZ


def test_sleepecg_finds_the_beats_where_they_were_put() -> None:
    found = missed = extra = 0
    for case in cases()[:100]:
        peaks = _peaks(simulate(case, rate_hz=RATE_HZ, seconds=SECONDS).millivolts.astype(np.float64))
        low, high = case.events.qrs_s - 0.04, case.events.qrs_s + case.heart.qrs_s + 0.06
        inside = (case.events.qrs_s > 0.4) & (case.events.qrs_s < SECONDS - 0.4)
        hit = (peaks[:, None] >= low) & (peaks[:, None] <= high)
        found += int(hit.any(0)[inside].sum())
        missed += int((~hit.any(0))[inside].sum())
        extra += int((~hit.any(1) & (peaks > 0.4) & (peaks < SECONDS - 0.4)).sum())
    assert found / (found + missed) > 0.97
    assert extra < 0.03 * found


@pytest.mark.parametrize(
    ("rhythm", "share"),  # a spike of a pacemaker is now and then taken for a beat
    [("SR", 0.85), ("SBRAD", 0.85), ("STACH", 0.85), ("AFIB", 0.85), ("SVTAC", 0.85), ("AFLT", 0.85), ("PACE", 0.6)],
)
def test_sleepecg_measures_the_rate_that_was_drawn(rhythm: str, share: float) -> None:
    errors = []
    for case in _with({rhythm}, {"PVC", "PAC", "PACE"} - {rhythm}, limit=40):
        peaks = _peaks(simulate(case, rate_hz=RATE_HZ, seconds=SECONDS).millivolts.astype(np.float64))
        errors.append(60 / np.mean(np.diff(peaks)) / case.rate_bpm - 1)
    assert np.median(np.abs(errors)) < 0.02
    assert np.mean(np.abs(errors) < 0.1) > share


def _spread_of_rr(case: CaseParameters) -> float:
    intervals = np.diff(_peaks(_quiet(case)))
    return float(intervals.std() / intervals.mean())


def test_intervals_between_beats_are_irregular_in_fibrillation_and_regular_where_they_should_be() -> None:
    spread = {
        r: np.median([_spread_of_rr(c) for c in _with({r}, {"PVC", "PAC", "PACE", "AFIB"} - {r}, 10)])
        for r in ("SR", "SARRH", "AFIB", "SVTAC", "PACE")
    }
    assert spread["AFIB"] > 0.12
    assert spread["SARRH"] > 0.08
    assert spread["SR"] < 0.05
    assert spread["SVTAC"] < 0.02
    assert spread["PACE"] < 0.02


@pytest.mark.parametrize(("pattern", "every"), [("BIGU", 2), ("TRIGU", 3)])
def test_every_second_or_third_interval_is_short(pattern: str, every: int) -> None:
    short = []
    for case in _with({pattern}, limit=12):
        intervals = np.diff(_peaks(_quiet(case)))
        positions = np.flatnonzero(intervals < 0.88 * np.median(np.sort(intervals)[len(intervals) // every :]))
        if len(positions) > 1:
            short.append(np.median(np.diff(positions)))
    assert np.median(short) == every


def _measured(chosen: list[CaseParameters]) -> Iterator[tuple[CaseParameters, tuple[float, float, float]]]:
    for case in chosen:
        yield case, _intervals(case)


@pytest.mark.parametrize(
    ("wanted", "pr_ms", "qrs_ms", "qt_ms"),
    [
        ({"NORM", "SR"}, 15, 12, 25),
        ({"1AVB"}, 20, 15, 30),
        ({"CLBBB"}, 20, 16, 30),
        ({"CRBBB"}, 20, 16, 30),
        ({"LNGQT"}, 20, 15, 35),
        ({"WPW"}, 20, 20, 35),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_pr_qrs_and_qt_come_out_as_generated(wanted: set[str], pr_ms: float, qrs_ms: float, qt_ms: float) -> None:
    apart = {"PVC", "PAC", "BIGU", "TRIGU", "AFIB", "AFLT", "SVTAC", "PSVT", "SVARR", "STACH", "SARRH", "LVOLT"}
    slow = [c for c in _with(wanted, apart, limit=40) if c.rate_bpm < 78]  # P clear of the T wave before it
    pairs = list(_measured(slow[:12]))
    assert len(pairs) >= 4
    truth = np.array([(c.pr_s, c.qrs_s, c.qt_s) for c, _ in pairs])
    error = np.median(np.abs(np.array([m for _, m in pairs]) - truth), axis=0) * 1000
    assert (error < [pr_ms, qrs_ms, qt_ms]).all(), error
