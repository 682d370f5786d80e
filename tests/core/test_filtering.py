"""An encoder's filter against scipy, against Butterworth's formula, and by symmetries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage, signal

from melp_bench.errors import UserError
from melp_bench.filtering import Filter, decimated, extension, filtered, running_median
from melp_bench.leads import LEADS
from melp_bench.signal import Scaling, SignalSpec, conform, native_window

TOLERANCE = 1e-5  # of the largest value in the signal
BAND = Filter(band=(0.67, 40.0))
FILTERS = {
    "band": BAND,
    "high pass": Filter(band=(0.5, None), order=5),
    "low pass": Filter(band=(None, 30.0), order=2),
    "odd order": Filter(band=(None, 25.0), order=3),
    "notch": Filter(notch_hz=50.0),
    "narrow notch": Filter(notch_hz=60.0, notch_q=100.0),
    "all": Filter(notch_hz=50.0, band=(0.67, 40.0), baseline_seconds=0.4),
    "finite band": Filter(band=(0.05, 47.0), fir_seconds=0.3),
    "finite high pass behind a notch": Filter(notch_hz=50.0, band=(0.5, None), fir_seconds=0.25),
}


def waves(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return noise that wanders, with an offset of several millivolts."""
    rng = np.random.default_rng(seed)
    x = 0.02 * rng.standard_normal(shape).cumsum(axis=-1) + 0.1 * rng.standard_normal(shape)
    return torch.from_numpy((x + 3 * rng.standard_normal((*shape[:-1], 1))).astype(np.float32))


def by_scipy(x: np.ndarray, wanted: Filter, rate_hz: float) -> np.ndarray:
    """Return what scipy makes of `x`, in float64."""
    x = x.astype(np.float64)

    def run(sos: np.ndarray, y: np.ndarray) -> np.ndarray:
        if not wanted.causal:
            return np.asarray(signal.sosfiltfilt(sos, y))
        start = signal.sosfilt_zi(sos).reshape(len(sos), *[1] * (y.ndim - 1), 2) * y[None, ..., :1]
        return np.asarray(signal.sosfilt(sos, y, zi=start)[0])

    if wanted.notch_hz is not None:
        b, a = signal.iirnotch(wanted.notch_hz, wanted.notch_q, fs=rate_hz)
        x = run(signal.tf2sos(b, a), x) if wanted.causal else np.asarray(signal.filtfilt(b, a, x))
    low, high = wanted.band
    if wanted.fir_seconds is not None:
        length = int(wanted.fir_seconds * rate_hz)
        taps = signal.firwin(length + 1 - length % 2, [edge for edge in (low, high) if edge], pass_zero=False, fs=rate_hz)
        start = signal.lfilter_zi(taps, 1.0) * x[..., :1]
        return signal.lfilter(taps, 1.0, x, zi=start)[0] if wanted.causal else np.asarray(signal.filtfilt(taps, 1.0, x))
    if low or high:
        kind, edges = ("bandpass", (low, high)) if low and high else ("highpass", low) if low else ("lowpass", high)
        x = run(signal.butter(wanted.order, edges, btype=kind, output="sos", fs=rate_hz), x)
    if wanted.baseline_seconds is not None:
        width = 2 * (round(wanted.baseline_seconds * rate_hz) // 2) + 1
        x = x - ndimage.median_filter(x, size=(1,) * (x.ndim - 1) + (width,), mode="reflect")
    return x


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rate_hz", [250.0, 500.0, 1000.0])
@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_is_scipys_to_one_part_in_a_hundred_thousand(name: str, rate_hz: float, causal: bool) -> None:
    wanted, x = replace(FILTERS[name], causal=causal), waves(2, 3, round(4 * rate_hz) + 7)
    expected = by_scipy(x.numpy(), wanted, rate_hz)
    found = filtered(x, wanted, rate_hz).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(x.numpy()).max()


@pytest.mark.parametrize("factor", [2, 5])
def test_decimation_is_scipys(factor: int) -> None:
    x = waves(3, 6003)
    expected = signal.decimate(x.double().numpy(), factor)
    found = decimated(x, factor).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(x.numpy()).max()


def test_a_finite_filter_without_a_band_and_a_band_that_a_rate_cannot_hold_are_told() -> None:
    with pytest.raises(UserError, match=r"fir_seconds is 0\.3 and there is no band"):
        Filter(notch_hz=50.0, fir_seconds=0.3)
    x, slow = waves(1, 2, 400), Filter(band=(None, 47.0), fir_seconds=0.3)
    assert torch.equal(filtered(x, slow, 80.0), x)  # it has nothing above 40 Hz
    assert filtered(x[..., :9], FILTERS["finite band"], 500.0).shape == (1, 2, 9)


def test_a_record_that_is_shorter_than_its_extension_is_filtered_all_the_same() -> None:
    x = waves(1, 12, 20)
    found = filtered(x, BAND, 500.0)
    assert found.shape == x.shape
    assert torch.isfinite(found).all()
    assert filtered(x[..., :1], BAND, 500.0).shape == (1, 12, 1)


@pytest.mark.parametrize("kind", ["bandpass", "highpass", "lowpass"])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_the_extension_is_as_long_as_that_of_filtfilt(kind: str, order: int) -> None:
    edges = {"bandpass": (0.67, 40.0), "highpass": 0.67, "lowpass": 40.0}[kind]
    sections = signal.butter(order, edges, btype=kind, output="sos", fs=500.0)
    b, a = signal.butter(order, edges, btype=kind, fs=500.0)
    assert extension(tuple(tuple(row) for row in sections.tolist())) == 3 * max(len(a), len(b))


@pytest.mark.parametrize("hz", [0.2, 0.67, 2.0, 17.0, 40.0, 90.0])
@pytest.mark.parametrize("causal", [False, True])
def test_a_sine_keeps_of_its_amplitude_what_butterworths_formula_says(hz: float, causal: bool) -> None:
    rate, order = 500.0, 4
    at = torch.arange(round(60 * rate), dtype=torch.float64) / rate
    y = filtered(torch.sin(2 * np.pi * hz * at).float()[None], Filter(band=(0.67, 40.0), order=order, causal=causal), rate)
    inside = slice(10_000, 20_000)
    wave = torch.exp(-2j * np.pi * hz * at[inside])
    found = float(2 * abs((y[0, inside] * wave).mean()))
    warped, low, high = (np.tan(np.pi * f / rate) for f in (hz, 0.67, 40.0))  # as the bilinear transform does
    gain = 1 / np.sqrt(1 + ((warped**2 - low * high) / (warped * (high - low))) ** (2 * order))
    assert found == pytest.approx(gain if causal else gain**2, abs=2e-3)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_both_ways_does_to_a_record_that_runs_backwards_the_same(name: str) -> None:
    x = waves(1, 2, 16_000)
    found = filtered(x.flip(-1), FILTERS[name], 500.0).flip(-1)
    inside = slice(6000, -6000)  # at the ends it matters which way was first
    assert torch.allclose(found[..., inside], filtered(x, FILTERS[name], 500.0)[..., inside], atol=1e-3)


def test_a_recorders_filter_reads_nothing_that_is_still_to_come() -> None:
    x = waves(1, 2, 2000)
    other = x.clone()
    other[..., 1200:] += 1.0
    one, two = (filtered(y, replace(BAND, causal=True), 500.0) for y in (x, other))
    assert torch.allclose(one[..., :1200], two[..., :1200], atol=1e-5)
    assert (one[..., 1200:1210] - two[..., 1200:1210]).abs().max() > 0.1
    both = [filtered(y, BAND, 500.0) for y in (x, other)]
    assert (both[0][..., 1150:1200] - both[1][..., 1150:1200]).abs().max() > 0.05


def test_what_a_rate_cannot_hold_is_left_out_and_what_it_cannot_give_is_refused() -> None:
    x = waves(1, 2, 800)
    assert torch.equal(
        filtered(x, Filter(notch_hz=60.0, band=(0.5, 55.0)), 100.0), filtered(x, Filter(band=(0.5, None)), 100.0)
    )
    with pytest.raises(UserError, match="a record of 100 Hz has nothing above the low edge of 60 Hz"):
        filtered(x, Filter(band=(60.0, None)), 100.0)


def test_a_constant_is_taken_out_by_a_high_edge_and_kept_by_a_low_one() -> None:
    x = torch.full((1, 2, 900), 7.25)
    assert not filtered(x, BAND, 500.0).any()
    assert torch.allclose(filtered(x, Filter(band=(None, 30.0)), 500.0), x, atol=1e-5)
    assert torch.allclose(filtered(x, Filter(notch_hz=50.0), 500.0), x, atol=1e-5)
    assert not filtered(x, Filter(baseline_seconds=0.2), 500.0).any()


@pytest.mark.parametrize("width", [3, 51, 201])
def test_a_running_median_is_one_thing_on_every_device(width: int) -> None:
    x = waves(2, 3, 300)
    slow = np.stack([np.median(np.pad(x.numpy(), ((0, 0), (0, 0), (width, width)), mode="symmetric")[..., width + t - width // 2 : width + t + width // 2 + 1], axis=-1) for t in range(300)], axis=-1)  # fmt: skip  # noqa: E501
    assert np.array_equal(running_median(x, width).numpy(), slow)
    assert np.array_equal(running_median(x.clone().requires_grad_(), width).detach().numpy(), slow)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"band": (40.0, 0.5)}, {"notch_hz": 0.0}, {"band": (float("nan"), None)}, {"band": (0.5, None), "order": 0}],
)  # fmt: skip
def test_a_filter_that_is_none_is_refused_in_one_line(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"wanted positive|says nothing") as error:
        Filter(**wrong)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------------- in conform


@pytest.mark.parametrize("scaling", [Scaling.MILLIVOLT, Scaling.ZSCORE_LEAD])
@pytest.mark.parametrize("name", ["band", "all"])
def test_conform_filters_each_record_over_its_own_length(name: str, scaling: Scaling) -> None:
    spec = SignalSpec(rate_hz=250, seconds=6, scaling=scaling, filter=FILTERS[name])
    lengths = [700, 2000, 3000, 2000]
    records = [waves(12, n, seed=n + row) for row, n in enumerate(lengths)]
    batch = torch.full((4, 12, 3000), 77.0)
    for row, record in enumerate(records):
        batch[row, :, : record.shape[1]] = record
    together = conform(batch, rate_hz=500, leads=LEADS, spec=spec, lengths=torch.tensor(lengths))
    for row, record in enumerate(records):
        alone = conform(record[None], rate_hz=500, leads=LEADS, spec=spec)
        assert torch.allclose(together[row], alone[0], atol=2e-5)
        own = np.ascontiguousarray(by_scipy(record.numpy()[None], FILTERS[name], 500.0))
        plain = conform(torch.from_numpy(own).float(), rate_hz=500, leads=LEADS, spec=replace(spec, filter=None))
        assert torch.allclose(alone, plain, atol=1e-4)
        assert not alone[..., -(-record.shape[1] // 2) :].any()


def test_a_filtered_record_is_decided_by_what_lies_in_its_native_window() -> None:
    spec = SignalSpec(rate_hz=100, seconds=2, filter=BAND)
    x = waves(1, 12, 15_000)
    window = native_window(500, spec)
    assert 2 * 500 < window < x.shape[-1]
    other = x.clone()
    other[..., window:] = 1e3
    first, second = (conform(y, rate_hz=500, leads=LEADS, spec=spec) for y in (x, other))
    assert torch.equal(first, second)


def test_gradients_pass_the_filter() -> None:
    x = waves(1, 12, 600).requires_grad_()
    conform(
        x, rate_hz=100, leads=LEADS, spec=SignalSpec(rate_hz=100, seconds=6, filter=FILTERS["all"])
    ).square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("width", [3, 21, 201])
def test_a_median_that_reads_zeros_beyond_the_ends_is_scipys_medfilt(width: int) -> None:
    x = waves(2, 3, 150)
    expected = np.stack([[signal.medfilt(lead, width) for lead in record] for record in x.double().numpy()])
    assert np.abs(running_median(x, width, "zero").numpy() - expected).max() < 1e-6
    with_gradient = running_median(x.clone().requires_grad_(), width, "zero")  # as on a device without scipy
    assert np.abs(with_gradient.detach().numpy() - expected).max() < 1e-6
    with pytest.raises(UserError, match="baseline_ends is 'hold'"):
        Filter(baseline_seconds=0.4, baseline_ends="hold")  # type: ignore[arg-type]
