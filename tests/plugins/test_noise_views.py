"""Views that disturb a recording or its spectrum: the frequencies, strengths and leads that each claims."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.plugins import discover
from melp_plugins.views.noises import Jitter, Mains, MuscleNoise
from melp_plugins.views.spectrum import BandPass, FrequencyMask

SPEC = mb.SignalSpec(rate_hz=250.0, seconds=4.0)
EACH = [Jitter(), Mains(), MuscleNoise(), FrequencyMask(), BandPass()]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def waves(hertz: float, batch: int = 8, leads: int = 12) -> Tensor:
    """Return sines of `hertz` at the rate of `SPEC`, whole cycles of them."""
    seconds = torch.arange(SPEC.samples, dtype=torch.float64) / SPEC.rate_hz
    return (7 * torch.sin(2 * math.pi * hertz * seconds)).expand(batch, leads, -1)


def power(signal: Tensor) -> tuple[Tensor, Tensor]:
    """Return the frequencies (F,) and the power at each, (B, L, F)."""
    return torch.fft.rfftfreq(signal.shape[-1], 1 / SPEC.rate_hz), torch.fft.rfft(signal).abs().square()


@pytest.mark.parametrize("view", EACH, ids=lambda view: type(view).__name__)
def test_scaling_and_shifting_a_record_scale_and_shift_each_view(view: mb.View) -> None:
    signal = torch.randn(4, 12, 200, generator=seeded(7), dtype=torch.float64).cumsum(dim=-1) / 10
    view = view.at(SPEC)
    torch.testing.assert_close(view(3 * signal + 5, seeded(4)), 3 * view(signal, seeded(4)) + 5)


@pytest.mark.parametrize("view", [Jitter(strength=0.0), Mains(most=0.0), MuscleNoise(most=0.0), FrequencyMask(widest_hz=0.0)])
def test_a_view_of_no_strength_is_the_record(view: mb.View) -> None:
    signal = torch.randn(4, 12, 200, generator=seeded(7), dtype=torch.float64)
    torch.testing.assert_close(view.at(SPEC)(signal, seeded(3)), signal)


def test_the_mains_are_one_frequency_of_one_phase_and_of_each_leads_own_strength() -> None:
    for hertz in (50.0, 60.0):
        record = waves(5)
        added = Mains(hertz=hertz, most=0.2).at(SPEC)(record, seeded(1)) - record
        frequency, found = power(added)
        assert (found[..., frequency == hertz] / found.sum(dim=-1, keepdim=True)).min() > 1 - 1e-9
        phase = torch.fft.rfft(added)[..., frequency == hertz].angle().squeeze(-1) % math.pi  # a lead may see the opposite
        torch.testing.assert_close(phase, phase[:, :1].expand_as(phase))
        strength = added.abs().amax(dim=-1) / record.std(dim=(1, 2))[:, None]
        assert strength.max() <= 0.2 + 1e-9
        assert 0.08 < strength.mean() < 0.12
        assert strength.unique().numel() == strength.numel()


def test_mains_that_a_record_cannot_hold_leave_it_as_it_is() -> None:
    record = waves(5)
    for rate, held in ((100.0, False), (99.0, False), (101.0, True)):
        seen = Mains(hertz=50.0).at(mb.SignalSpec(rate_hz=rate))(record, seeded(1))
        assert torch.equal(seen, record) is not held


def test_muscles_noise_lies_in_its_band_and_is_each_leads_own() -> None:
    record = waves(5)
    added = MuscleNoise(most=0.2, low_hz=20.0, high_hz=60.0).at(SPEC)(record, seeded(2)) - record
    frequency, found = power(added)
    band = (frequency >= 20) & (frequency <= 60)
    assert (found[..., ~band].sum(dim=-1) / found.sum(dim=-1)).max() < 1e-9
    assert (found[..., band] > 0).all()
    strength = added.std(dim=-1) / record.std(dim=(1, 2))[:, None]
    torch.testing.assert_close(strength, strength[:, :1].expand_as(strength))  # a record has one strength
    assert strength.max() <= 0.2
    assert strength[:, 0].unique().numel() == 8
    lead = added / added.std(dim=-1, keepdim=True)
    assert (lead[:, 0] * lead[:, 1]).mean(dim=-1).abs().max() < 0.2
    assert torch.equal(MuscleNoise().at(mb.SignalSpec(rate_hz=30.0))(record, seeded(2)), record)


def test_jitter_is_white_and_as_strong_as_it_says_in_each_lead() -> None:
    record = waves(5) * torch.arange(1, 13)[:, None]
    added = Jitter(strength=0.5)(record, seeded(3)) - record
    strength = added.std(dim=-1) / record.std(dim=-1)
    assert ((strength > 0.45) & (strength < 0.55)).all()
    neighbours = (added[..., 1:] * added[..., :-1]).mean(dim=-1) / added.square().mean(dim=-1)
    assert neighbours.abs().max() < 0.15


def test_a_masked_band_is_gone_from_all_leads_and_everything_else_stays() -> None:
    record = torch.randn(64, 3, SPEC.samples, generator=seeded(5), dtype=torch.float64) + 3
    seen = FrequencyMask(widest_hz=5.0, highest_hz=40.0).at(SPEC)(record, seeded(6))
    frequency, found = power(seen)
    gone = found < 1e-12 * power(record)[1]
    assert torch.equal(gone, gone[:, :1].expand_as(gone))
    torch.testing.assert_close(torch.fft.rfft(seen)[~gone], torch.fft.rfft(record)[~gone])
    assert not gone[..., (frequency == 0) | (frequency > 40)].any()
    widths = gone[:, 0].sum(dim=-1) * SPEC.rate_hz / SPEC.samples
    assert 4 < widths.max() <= 5.25
    assert widths.min() < 1
    last = gone[:, 0].int().diff(dim=-1).abs().sum(dim=-1)  # one band: it begins once and ends once
    assert last.max() <= 2
    torch.testing.assert_close(seen.mean(dim=-1), record.mean(dim=-1))


def test_a_band_pass_keeps_waves_of_its_band_and_the_mean_and_nothing_else() -> None:
    view = BandPass(low_hz=0.5, high_hz=40.0).at(SPEC)
    for hertz, kept in ((0.25, False), (0.5, True), (10.0, True), (40.0, True), (40.25, False), (50.0, False)):
        wanted = waves(hertz) if kept else torch.zeros_like(waves(hertz))
        torch.testing.assert_close(view(waves(hertz) + 2, seeded(0)), wanted + 2, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("mains", {"hertz": 0.0}, "'hertz' of 'mains' is 0.0; wanted 1 to 1000"),
        ("emg", {"low_hz": 200.0}, "'low_hz' of 'emg' is 200.0; wanted 0 to 150"),
        ("jitter", {"strength": -1.0}, "'strength' of 'jitter' is -1.0"),
        ("frequency-mask", {"widest_hz": 50.0}, "'widest_hz' of 'frequency-mask' is 50.0; wanted 0 to 40"),
        ("band-pass", {"low_hz": 41.0}, "'low_hz' of 'band-pass' is 41.0"),
    ],
)
def test_an_option_out_of_its_range_is_told(name: str, options: dict[str, float], told: str) -> None:
    with pytest.raises(mb.UserError, match=told):
        discover().views[name].build(**options)
