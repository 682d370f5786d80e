"""`conform` against slow oracles, closed forms and symmetries."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from melp_bench.errors import UserError
from melp_bench.resampling import resample_fourier
from melp_bench.signal import LEADS, Scaling, SignalSpec, bridge, canonical_lead, conform, native_window, resample

RATES = (100, 250, 257, 400, 500, 1000)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def einthoven(count: int, samples: int) -> torch.Tensor:
    """Return records whose limb leads obey the identities."""
    one, two, chest = noise(count, 1, samples), noise(count, 1, samples, seed=1), noise(count, 6, samples, seed=2)
    return torch.cat([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, chest], dim=1)


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("i", "I"), ("AVR", "aVR"), ("avl", "aVL"), ("DI", "I"), ("DII", "II"), ("d3", "III"), ("MLII", "II"),
        ("Lead V4", "V4"), ("ECG Lead I", "I"),
        ("ECG II", "II"), (" v1 ", "V1"), ("aV_F", "aVF"), ("C6", "V6"), ("MV1", "V1"), ("ECG_V2", "V2"),
    ],
)  # fmt: skip
def test_usual_spellings_mean_their_standard_lead(name: str, lead: str) -> None:
    assert canonical_lead(name) == lead


@pytest.mark.parametrize("name", ["-aVR", "vx", "V7", "", "IV", "resp", "aVQ", "V3R"])
def test_any_other_name_is_refused_and_shown(name: str) -> None:
    with pytest.raises(UserError, match="unknown lead"):
        canonical_lead(name)


def test_standard_leads_are_their_own_names() -> None:
    assert [canonical_lead(lead) for lead in LEADS] == list(LEADS)


@pytest.mark.parametrize("have", RATES)
@pytest.mark.parametrize("want", [100, 250, 400, 500])
def test_resampling_is_that_of_scipy_to_one_part_in_a_hundred_thousand(have: int, want: int) -> None:
    x = noise(2, 3, 10 * have + 7).cumsum(-1)
    shared = math.gcd(have, want)
    if have == want:
        expected = x.double().numpy()
    else:
        expected = scipy.signal.resample_poly(x.double().numpy(), want // shared, have // shared, axis=-1, padtype="edge")
    found = resample(x, have_hz=have, want_hz=want).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("have", RATES)
@pytest.mark.parametrize("want", [100, 250, 400, 500])
@pytest.mark.parametrize("seconds", [2.0, 2.01, 2.002])
def test_resampling_by_a_fourier_transform_is_that_of_scipy(have: int, want: int, seconds: float) -> None:
    x = noise(2, 3, round(seconds * have)).cumsum(-1)
    found = resample_fourier(x, have_hz=have, want_hz=want).numpy()
    count = math.ceil(round(seconds * have) * want / have)
    expected = x.double().numpy() if have == want else scipy.signal.resample(x.double().numpy(), count, axis=-1)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_by_a_fourier_transform_a_record_is_resampled_alone_and_without_what_is_not_kept() -> None:
    spec = SignalSpec(rate_hz=100, seconds=4, resampling="fourier")
    lengths = [500, 1000, 1500]
    records = [noise(12, length, seed=length) for length in lengths]
    batch = torch.full((3, 12, 1500), 77.0)
    for row, record in enumerate(records):
        batch[row, :, : record.shape[1]] = record
    found = conform(batch, rate_hz=250, leads=LEADS, spec=spec, lengths=torch.tensor(lengths)).numpy()
    for row, record in enumerate(records):
        kept = record[:, :1000].double().numpy()
        expected = scipy.signal.resample(kept, 2 * kept.shape[1] // 5, axis=-1)
        np.testing.assert_allclose(found[row, :, : expected.shape[1]], expected, atol=1e-5)
        assert not found[row, :, expected.shape[1] :].any()


@pytest.mark.parametrize("wrong", [{"resampling": "nearest"}, {"clip": 0.0}, {"clip": -1.0}])
def test_what_a_spec_cannot_mean_is_told_at_once(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))} is "):
        SignalSpec(**wrong)  # type: ignore[arg-type]


def test_what_is_scaled_is_clipped_and_padding_stays_zero() -> None:
    x = noise(1, 12, 600)
    x[0, 3, 100] = 40.0
    spec = SignalSpec(rate_hz=100, seconds=7, scaling=Scaling.ZSCORE_LEAD)
    whole, held = (conform(x, rate_hz=100, leads=LEADS, spec=replace(spec, clip=clip)) for clip in (None, 2.5))
    assert float(whole.abs().max()) > 20
    assert torch.equal(held, whole.clamp(-2.5, 2.5))


@pytest.mark.parametrize("want", [100, 250, 400, 500])
@pytest.mark.parametrize("have", RATES)
def test_a_slow_sine_stays_the_same_sine_at_any_rate(have: int, want: int) -> None:
    spec = SignalSpec(rate_hz=want, seconds=4, leads=("II",))
    x = torch.sin(2 * math.pi * 5 * torch.arange(6 * have, dtype=torch.float64) / have).float()[None, None]
    expected = torch.sin(2 * math.pi * 5 * torch.arange(4 * want, dtype=torch.float64) / want).float()
    found = conform(x, rate_hz=have, leads=["II"], spec=spec)[0, 0]
    inside = slice(want // 2, -want // 2)
    assert (found - expected)[inside].abs().max() < 5e-3


def test_an_offset_has_no_step_at_the_ends_after_resampling() -> None:
    x = torch.full((1, 1, 500), 3.0)
    assert torch.allclose(resample(x, have_hz=500, want_hz=257), torch.tensor(3.0), atol=5e-3)
    assert torch.allclose(resample(x, have_hz=500, want_hz=250), torch.tensor(3.0), atol=1e-5)


@pytest.mark.parametrize(("have", "want"), [(500, 250), (1000, 500), (400, 500), (257, 100), (360.0, 500)])
def test_samples_behind_the_native_window_do_not_decide_anything(have: float, want: float) -> None:
    spec = SignalSpec(rate_hz=want, seconds=2)
    x = noise(2, 12, round(5 * have))
    window = native_window(have, spec)
    assert window < x.shape[-1]
    other = x.clone()
    other[..., window:] = 1e3
    whole = resample(x, have_hz=have, want_hz=want)[..., : spec.samples]
    first, second = (conform(y, rate_hz=have, leads=LEADS, spec=spec) for y in (x, other))
    assert torch.equal(first, second)
    assert torch.allclose(first, whole, atol=1e-5)


def test_leads_are_found_by_name_in_any_order_and_spelling() -> None:
    x = noise(2, 12, 1000)
    mimic = ["I", "II", "III", "AVR", "aVF", "avl", "v1", "v2", "V3", "V4", "V5", "V6"]
    found = conform(x, rate_hz=100, leads=mimic, spec=SignalSpec(rate_hz=100))
    assert torch.equal(found[:, 4], x[:, 5])
    assert torch.equal(found[:, 5], x[:, 4])


@pytest.mark.parametrize("kept", [("I", "II"), ("I", "aVF"), ("aVR", "aVL"), ("III", "aVR"), ("II", "aVL")])
def test_two_limb_leads_give_all_six(kept: tuple[str, str]) -> None:
    x = einthoven(3, 400)
    rows = [LEADS.index(lead) for lead in (*kept, *LEADS[6:])]
    found = conform(x[:, rows], rate_hz=100, leads=[LEADS[row] for row in rows], spec=SignalSpec(rate_hz=100, seconds=4))
    assert torch.allclose(found, x, atol=1e-5)


def test_a_lead_that_cannot_be_derived_is_an_error_or_zero_as_asked() -> None:
    x, spec = noise(1, 1, 1000), SignalSpec(rate_hz=100, leads=("II", "V1"))
    with pytest.raises(UserError, match="lead V1 is wanted and cannot be derived from II"):
        conform(x, rate_hz=100, leads=["II"], spec=spec)
    found = conform(x, rate_hz=100, leads=["II"], spec=replace(spec, missing_leads="zero"))
    assert torch.equal(found[:, :1], x)
    assert not found[:, 1].any()


@pytest.mark.parametrize("scaling", list(Scaling))
@pytest.mark.parametrize("rate_hz", [100, 250])
def test_a_record_does_not_depend_on_neighbours_or_on_padding(scaling: Scaling, rate_hz: float) -> None:
    spec = SignalSpec(rate_hz=rate_hz, seconds=6, scaling=scaling)
    lengths = [130, 700, 2000, 1501]
    records = [noise(12, n, seed=n) + 0.5 for n in lengths]
    batch = torch.full((4, 12, 2000), 77.0)
    for row, record in enumerate(records):
        batch[row, :, : record.shape[1]] = record
    together = conform(batch, rate_hz=250, leads=LEADS, spec=spec, lengths=torch.tensor(lengths))
    for row, record in enumerate(records):
        alone = conform(record[None], rate_hz=250, leads=LEADS, spec=spec)
        assert torch.allclose(together[row], alone[0], atol=2e-5)
        real = math.ceil(record.shape[1] * rate_hz / 250)
        assert not alone[..., real:].any()


@pytest.mark.parametrize("scaling", list(Scaling))
def test_scaling_is_that_of_a_slow_loop_over_the_real_samples(scaling: Scaling) -> None:
    spec = SignalSpec(rate_hz=100, seconds=5, scaling=scaling)
    lengths = [300, 500, 900]
    x = noise(3, 12, 900) * torch.linspace(0.1, 3, 12)[:, None] + 2
    found = conform(x, rate_hz=100, leads=LEADS, spec=spec, lengths=torch.tensor(lengths)).double().numpy()
    for row, length in enumerate(lengths):
        real = x[row, :, : min(length, 500)].double().numpy()
        expected = np.zeros((12, 500))
        for lead in range(12):
            part = real if scaling.value.endswith("record") else real[lead : lead + 1]
            values = real[lead]
            if scaling.value.startswith("zscore"):
                values = (values - part.mean()) / part.std()
            elif scaling.value.startswith("minmax"):
                values = (values - part.min()) / (part.max() - part.min())
            elif scaling.value.startswith("symmetric"):
                values = 2 * (values - part.min()) / (part.max() - part.min()) - 1
            expected[lead, : len(values)] = values
        assert np.abs(found[row] - expected).max() < 2e-5


@pytest.mark.parametrize("scaling", [s for s in Scaling if s is not Scaling.MILLIVOLT])
@pytest.mark.parametrize("rate_hz", [100, 257])
def test_a_constant_becomes_zero_and_not_its_rounding_error(scaling: Scaling, rate_hz: float) -> None:
    x = torch.full((2, 12, 1000), 0.3)
    found = conform(x, rate_hz=100, leads=LEADS, spec=SignalSpec(rate_hz=rate_hz, scaling=scaling))
    if rate_hz == 100:
        assert not found.any()
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("scaling", list(Scaling))
def test_the_input_is_left_alone_unless_it_may_be_overwritten(scaling: Scaling) -> None:
    x = noise(2, 12, 1000)
    before = x.clone()
    spec = SignalSpec(rate_hz=100, scaling=scaling)
    first = conform(x, rate_hz=100, leads=LEADS, spec=spec)
    assert torch.equal(x, before)
    assert torch.equal(conform(x, rate_hz=100, leads=LEADS, spec=spec, inplace=True), first)


@pytest.mark.parametrize("scaling", list(Scaling))
def test_gradients_reach_the_signal(scaling: Scaling) -> None:
    x = noise(1, 12, 300).double().float().requires_grad_()
    conform(x, rate_hz=100, leads=LEADS, spec=SignalSpec(rate_hz=250, seconds=3, scaling=scaling))[
        ..., ::3
    ].square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 1000))
def test_missing_samples_are_bridged_as_numpy_interpolates(missing: list[bool], seed: int) -> None:
    gaps = np.array(missing)
    x = np.random.default_rng(seed).standard_normal(len(gaps))
    time = np.arange(len(gaps))
    expected = np.interp(time, time[~gaps], x[~gaps]) if (~gaps).any() else np.zeros(len(gaps))
    broken = np.where(gaps, [np.nan, np.inf][seed % 2], x)
    assert np.abs(bridge(torch.from_numpy(broken)[None]).numpy()[0] - expected).max() < 1e-12


def test_missing_samples_do_not_spread_over_the_record() -> None:
    x = noise(1, 12, 1000)
    broken = x.clone()
    broken[0, 3, 500:505] = torch.nan
    found = conform(broken, rate_hz=100, leads=LEADS, spec=SignalSpec(rate_hz=100))
    assert torch.equal(found[0, :3], x[0, :3])
    assert torch.isfinite(found).all()
    assert torch.equal(found[0, 3, :500], x[0, 3, :500])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate_hz": 0.0}, "positive"),
        ({"rate_hz": math.nan}, "positive"),
        ({"leads": LEADS[:11]}, "shape"),
        ({"leads": ("I", *LEADS[:11])}, "twice"),
        ({"lengths": torch.tensor([0])}, "wanted 1 to"),
        ({"lengths": torch.tensor([1001])}, "wanted 1 to"),
    ],
)
def test_what_cannot_be_conformed_is_told_in_one_line(change: dict[str, object], said: str) -> None:
    given_: dict[str, object] = {"rate_hz": 100.0, "leads": LEADS} | change
    with pytest.raises(UserError, match=said) as error:
        conform(noise(1, 12, 1000), spec=SignalSpec(rate_hz=100), **given_)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_batch_of_none_is_a_batch() -> None:
    assert conform(noise(0, 12, 900), rate_hz=100, leads=LEADS, spec=SignalSpec(rate_hz=250)).shape == (0, 12, 2500)
