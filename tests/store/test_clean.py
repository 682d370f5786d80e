"""Cleaning: the filters do to a sine what their formulas say, and a cleaned store is another store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_waves import Beats, Waves, beats

from melp_bench.errors import UserError
from melp_bench.leads import LEADS
from melp_bench.records import BadRecord, Signal
from melp_bench.registry import Entry
from melp_bench.store import configured, prepare, store_path, verify, verify_source
from melp_bench.store.clean import METHODS, cleaned
from melp_bench.store.pack import Packed, pack

RATE = 500.0


def packed(x: np.ndarray, rate_hz: float = RATE) -> Packed:
    gains = np.abs(x).max(axis=1) / 32767
    values = np.rint(x / gains[:, None]).astype(np.int16)
    return Packed(values, gains.astype(np.float32), rate_hz, LEADS, 0, 0)


def gain_of(method: str, hz: float) -> float:
    """Return by how much a method changes the amplitude of a sine, measured in the middle of a minute."""
    at = np.arange(round(60 * RATE)) / RATE
    one = packed(np.tile(np.sin(2 * np.pi * hz * at), (12, 1)))
    done = cleaned(one, method)
    y = (done.values * done.gains[:, None])[0, 10_000:20_000]
    wave = np.exp(-2j * np.pi * hz * at[10_000:20_000])
    return float(2 * abs((y * wave).mean()))


def butterworth(hz: float, edges: tuple[float, ...], order: int, kind: str) -> float:
    """Return a Butterworth filter's gain by its formula, frequencies warped as the bilinear transform does."""
    warped, low, *high = (np.tan(np.pi * f / RATE) for f in (hz, *edges))
    if kind == "highpass":
        ratio = low / warped
    else:
        ratio = (warped**2 - low * high[0]) / (warped * (high[0] - low))
        ratio = 1 / ratio if kind == "bandstop" else ratio
    return float(1 / np.sqrt(1 + ratio ** (2 * order)))


@pytest.mark.parametrize("hz", [0.3, 0.5, 1.0, 7.0, 20.0, 40.0, 50.0])
def test_neurokit_is_a_high_pass_and_a_mean_over_a_period_of_the_mains_both_ways(hz: float) -> None:
    mean = abs(np.sin(10 * np.pi * hz / RATE) / (10 * np.sin(np.pi * hz / RATE)))  # of ten samples
    wanted = butterworth(hz, (0.5,), 5, "highpass") ** 2 * mean**2
    assert gain_of("neurokit", hz) == pytest.approx(wanted, abs=2e-3)


BANDS = {
    "pantompkins1985": ((5.0, 15.0), 1, "bandpass"),
    "hamilton2002": ((8.0, 16.0), 1, "bandpass"),
    "elgendi2010": ((8.0, 20.0), 2, "bandpass"),
    "engzeemod2012": ((48.0, 52.0), 4, "bandstop"),
}


@pytest.mark.parametrize("method", BANDS)
@pytest.mark.parametrize("hz", [1.0, 8.0, 12.0, 47.0, 51.0, 100.0])
def test_a_band_is_what_butterworths_formula_says(method: str, hz: float) -> None:
    edges, order, kind = BANDS[method]
    assert gain_of(method, hz) == pytest.approx(butterworth(hz, edges, order, kind), abs=2e-3)


@pytest.mark.parametrize(("hz", "wanted"), [(0.1, 0.0), (5.0, 1.0), (30.0, 1.0), (60.0, 0.0)])
def test_biosppy_passes_two_thirds_to_45_hertz(hz: float, wanted: float) -> None:
    assert gain_of("biosppy", hz) == pytest.approx(wanted, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_leads_are_filtered_one_by_one_and_what_was_found_before_stays(method: str) -> None:
    x = beats()
    x[4] = 0.25
    one = pack(Signal(x.astype(np.float32), RATE, LEADS))
    whole = cleaned(one, method)
    assert (whole.quality_flags, whole.flat_leads, whole.leads, whole.rate_hz) == (one.quality_flags, 1, one.leads, RATE)
    assert whole.values.shape == one.values.shape
    other = x.copy()
    other[0] *= -1
    again = cleaned(pack(Signal(other.astype(np.float32), RATE, LEADS)), method)
    assert np.array_equal(again.values[1:], whole.values[1:])
    assert np.array_equal(again.values[0], -whole.values[0])


def test_a_record_that_a_filter_cannot_take_is_bad() -> None:
    with pytest.raises(BadRecord, match="not-cleaned: biosppy cannot filter 1000 samples of 500 Hz"):
        cleaned(packed(beats()[:, :1000]), "biosppy")
    with pytest.raises(BadRecord, match="not-cleaned: engzeemod2012"):
        cleaned(packed(beats(), 100.0), "engzeemod2012")


def test_a_cleaned_store_has_its_own_folder_and_fingerprint_and_is_verified_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    entry = Entry(name="beats", build=Beats, summary="")
    made = []
    for given in ({"count": 20, "clean": "neurokit"}, {"count": 20}, {"count": 20, "clean": "none"}):
        dataset, options = configured(entry, given)
        made.append(prepare(dataset, name="beats", source=None, options=options, workers=1))
    assert [store.root for store in made[1:]] == [store_path("beats", made[1].manifest.options)] * 2
    assert made[0].root != made[1].root
    assert made[0].fingerprint != made[1].fingerprint
    assert "clean" not in made[1].manifest.options
    assert made[0].manifest.options["clean"] == "neurokit"
    assert verify(made[0]).problems == ()
    assert verify_source(made[0], Beats(count=20), None).problems == ()
    raw, clean = (store.signal(0).millivolts for store in made[1::-1])
    assert np.abs(clean.mean(axis=1)).max() < 0.2 * np.abs(raw.mean(axis=1)).max()


def test_an_unknown_method_is_said_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no cleaning named 'neurokit2'; did you mean 'neurokit'"):
        configured(Entry(name="waves", build=Waves, summary=""), {"clean": "neurokit2"})
