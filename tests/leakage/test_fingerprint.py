"""What of a recording stays when it is packed again, by its waves, codes and beats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packagings import HARD, HARMLESS, changed, found, heart, packed

from melp_bench.leakage.check import compare
from melp_bench.leakage.codes import HALF, SCALE, codes
from melp_bench.leakage.waves import EDGE, RATE_HZ, Beats, at, beats, slices
from melp_bench.records import Signal

HEARTS = [heart(index) for index in range(40)]
WHOLE = packed(HEARTS)


@pytest.mark.parametrize("rate_hz", [100.0, 128.0, 250.0, 257.0, 360.0, 400.0, 500.0, 1000.0])
def test_waves_are_those_of_the_formula_at_every_rate(rate_hz: float) -> None:
    """A tone comes out at 100 Hz with the gain that the difference of two Gaussians has at its frequency."""
    t = np.arange(int(10 * rate_hz)) / rate_hz
    tone = 6.0
    signal = Signal(np.tile(np.sin(2 * np.pi * tone * t), (12, 1)).astype(np.float32), rate_hz)
    record = beats(signal)
    gain = np.exp(-2 * (np.pi * 0.012 * tone) ** 2) - np.exp(-2 * (np.pi * 0.06 * tone) ** 2)
    expected = gain * np.sin(2 * np.pi * tone * (np.arange(record.waves.shape[1]) + EDGE) / RATE_HZ)
    assert np.abs(record.waves - expected).max() < 0.02
    assert record.begin_s == pytest.approx(EDGE / RATE_HZ)


def test_a_cut_out_has_the_waves_of_the_whole() -> None:
    whole = WHOLE[3].waves
    cut = beats(changed(HEARTS[3], HEARTS[3].millivolts[:, 500:1750]))
    assert np.abs(cut.waves - whole[:, 200 : 200 + cut.waves.shape[1]]).max() < 1e-3 * np.abs(whole).max()


def test_gains_signs_order_and_padding_hardly_move_a_code() -> None:
    rng = np.random.default_rng(0)
    for record, signal in zip(WHOLE[:10], HEARTS, strict=False):
        twisted = signal.millivolts[rng.permutation(12)] * rng.choice([-3.0, 0.5, 2.0], (12, 1))
        padded = np.pad(twisted, ((0, 0), (100, 900)), constant_values=0.7)
        (mine, mine_s), (other, other_s) = codes(record), codes(beats(changed(signal, padded)))
        delay = np.abs(other_s - 100 / signal.rate_hz - mine_s[:, None])  # (mine, other)
        assert delay.min(axis=1).max() < 0.005
        partner = other[delay.argmin(axis=1)]
        assert np.linalg.norm(mine.astype(float) - partner, axis=1).max() < 0.05 * SCALE


def test_codes_have_the_distance_of_the_curves_they_stand_for() -> None:
    """Few coefficients are cut, and 32 of them hold most of a curve of norm 1."""
    every = np.concatenate([codes(record)[0] for record in WHOLE]).astype(float) / SCALE
    assert (np.abs(every) < 127 / SCALE).mean() > 0.97
    assert 0.7 < np.linalg.norm(every, axis=1).mean() <= 1.01


@given(st.floats(1.0, 90.0), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_slices_are_interpolated_as_points_are(start: float, row: int) -> None:
    waves = np.random.default_rng(row).standard_normal((2, 120)).astype(np.float32)
    np.testing.assert_allclose(
        slices(waves, np.array([start]), 20)[:, 0], at(waves, start + np.arange(20.0)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("samples", [1, 2, 25, 50, 200])
def test_what_is_short_or_still_has_no_code(samples: int) -> None:
    for values in (np.zeros((12, samples)), np.random.default_rng(0).standard_normal((12, samples))):
        code, seconds = codes(beats(Signal(values.astype(np.float32), 100.0)))
        assert len(code) == len(seconds) == 0
    assert samples < 2 * (HALF + EDGE)


@pytest.mark.parametrize("name", HARMLESS)
def test_every_recording_is_found_again_and_no_other(name: str) -> None:
    assert found(WHOLE, packed(HEARTS, HARMLESS[name])) == {(i, i) for i in range(len(HEARTS))}


@pytest.mark.parametrize("name", HARD)
def test_most_of_what_is_cut_or_lacks_leads_is_found_and_nothing_else(name: str) -> None:
    same = found(WHOLE, packed(HEARTS, HARD[name]))
    assert all(a == b for a, b in same)
    assert len(same) >= 0.9 * len(HEARTS)


def test_ten_seconds_of_a_minute_are_found_where_they_are() -> None:
    long = [heart(index, seconds=60.0) for index in range(100, 104)]
    parts = [changed(s, s.millivolts[:, 250 * (7 + 9 * k) : 250 * (17 + 9 * k)]) for k, s in enumerate(long)]
    first, second = packed(long), packed(parts)
    assert found(first, second) == {(k, k) for k in range(4)}
    assert found(second, first) == {(k, k) for k in range(4)}


def test_two_stretches_of_one_recording_are_not_one() -> None:
    """The hardest others there are: the same heart, minute and electrodes; at every lag that sets a beat upon a beat."""
    tried = 0
    for record in WHOLE:
        middle = record.waves.shape[1] // 2
        one, two = _cut(record, 0, middle), _cut(record, middle, record.waves.shape[1])
        for lag in (one.anchors[:, None] - two.anchors).ravel().tolist():
            tried += 1
            assert not compare(one, two, lag).same
    assert tried > 500


def test_paced_hearts_in_one_tempo_are_not_one() -> None:
    """The same beat at the same interval, twice, each with noise of its own: alike in all but the noise."""
    rng = np.random.default_rng(3)
    for record in WHOLE[:15]:
        beat = record.waves[:, int(record.anchors[2]) - 35 : int(record.anchors[2]) + 45] * np.hanning(80) ** 0.3
        waves = [np.tile(beat, 12) + 0.005 * rng.standard_normal((12, 960)) for _ in range(2)]
        one, two = (Beats(w.astype(np.float32), 35.0 + 80 * np.arange(12), 0.0) for w in waves)
        assert compare(one, two, 0.0).waves > 0.9
        assert not compare(one, two, 0.0).same
        assert compare(one, one, 0.0).same


def _cut(record: Beats, begin: int, end: int) -> Beats:
    inside = record.anchors[(record.anchors > begin) & (record.anchors < end - 1)]
    return Beats(record.waves[:, begin:end], inside - begin, 0.0)
