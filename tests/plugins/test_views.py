"""Views: what each change keeps of a record, what it may move, and where it looks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.plugins import discover
from melp_plugins.views.augmentation import AUGMENTATION
from melp_plugins.views.leads import MaskLeads
from melp_plugins.views.noises import Gain, Noise, Wander
from melp_plugins.views.parts import FIRST_HALF, SECOND_HALF, WHOLE, excerpt
from melp_plugins.views.timing import CropResize, TimeOut

EACH = [CropResize(), Gain(), Noise(), Wander(), MaskLeads()]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment(signal: Tensor, generator: torch.Generator) -> Tensor:
    for view in AUGMENTATION:
        signal = view(signal, generator)
    return signal


@pytest.fixture
def signal() -> Tensor:
    return torch.randn(4, 12, 200, generator=seeded(7)).cumsum(dim=-1) / 10


def test_a_view_of_all_augmentations_is_another_record(signal: Tensor) -> None:
    view = augment(signal, seeded(0))
    assert view.shape == signal.shape
    assert torch.isfinite(view).all()
    assert (view != signal).any(dim=(1, 2)).all()
    assert [type(one) for one in AUGMENTATION] == [Noise, Wander, TimeOut]


def test_a_view_is_a_pure_function_of_its_seed(signal: Tensor) -> None:
    assert torch.equal(augment(signal, seeded(1)), augment(signal, seeded(1)))
    assert not torch.equal(augment(signal, seeded(1)), augment(signal, seeded(2)))


@pytest.mark.parametrize("view", EACH, ids=lambda view: type(view).__name__)
def test_scaling_and_shifting_a_record_scale_and_shift_each_view(view: mb.View, signal: Tensor) -> None:
    signal = signal.double()
    torch.testing.assert_close(view(3 * signal + 5, seeded(4)), 3 * view(signal, seeded(4)) + 5)


@pytest.mark.parametrize(
    "view", [CropResize(shortest=1.0), Gain(most=0.0), Noise(most=0.0), Wander(strength=0.0), MaskLeads(probability=0.0), WHOLE]
)
def test_a_view_of_no_strength_is_the_record(view: mb.View, signal: Tensor) -> None:
    torch.testing.assert_close(view(signal, seeded(3)), signal)


def test_a_crop_of_a_ramp_is_a_ramp_at_most_as_steep() -> None:
    ramp = torch.linspace(0, 1, 101, dtype=torch.float64).expand(8, 2, -1)
    crop = CropResize()(ramp, seeded(5))
    steps = crop.diff(dim=-1)
    torch.testing.assert_close(steps, steps[..., :1].expand_as(steps))
    assert ((steps >= 0.008 - 1e-12) & (steps <= 0.01 + 1e-12)).all()
    assert (crop.amin() >= 0) & (crop.amax() <= 1)
    assert steps[:, 0, 0].unique().numel() == 8
    assert CropResize(shortest=0.3)(ramp, seeded(5)).diff(dim=-1).min() < 0.008


def test_a_gain_is_one_number_per_record_about_each_leads_level(signal: Tensor) -> None:
    many = signal.repeat(50, 1, 1).double()
    level = many[..., ::4].median(dim=-1, keepdim=True).values
    ratio = (Gain(most=0.5)(many, seeded(2)) - level) / (many - level)
    ratio = ratio[(many - level).abs() > 1e-6].view(-1)
    per_record = Gain(most=0.5)(torch.cat([torch.zeros(200, 12, 4), torch.ones(200, 12, 1)], dim=-1), seeded(2))[..., -1]
    assert torch.equal(per_record, per_record[:, :1].expand_as(per_record))
    assert 0.5 <= ratio.min() < 0.55
    assert 1.45 < ratio.max() <= 1.5


def test_noise_is_white_and_as_strong_as_it_says_in_units_of_the_record() -> None:
    wave = 7 * torch.sin(torch.linspace(0, 60, 4000)).expand(64, 12, -1)
    added = Noise(most=0.1)(wave, seeded(3)) - wave
    strength = added.std(dim=(1, 2)) / wave.std(dim=(1, 2))
    assert ((strength > 0) & (strength < 0.101)).all()
    assert 0.04 < strength.mean() < 0.06
    neighbours = (added[..., 1:] * added[..., :-1]).mean(dim=(1, 2)) / added.square().mean(dim=(1, 2))
    assert neighbours.abs().max() < 0.05


def test_a_wandering_baseline_is_slow_and_as_strong_as_it_says() -> None:
    wave = 7 * torch.sin(torch.linspace(0, 60, 4000)).expand(64, 12, -1)
    added = (Wander(strength=0.2)(wave, seeded(3)) - wave) / wave.std(dim=(1, 2), keepdim=True)
    assert 0.19 < added.abs().max() <= 0.2 + 1e-5
    crossings = (added.sign().diff(dim=-1) != 0).sum(dim=-1)
    assert crossings.max() <= 6  # two to a cycle, three cycles at most


def test_masked_leads_rest_at_their_level_and_one_is_always_kept(signal: Tensor) -> None:
    many = signal.repeat(100, 1, 1)
    level = many[..., ::4].median(dim=-1, keepdim=True).values.expand_as(many)
    out = MaskLeads()(many, seeded(6))
    masked = (out == level).all(dim=-1)
    assert torch.equal(out[~masked], many[~masked])
    assert 0.15 < masked.float().mean() < 0.25
    assert not masked.all(dim=1).any()
    assert (MaskLeads(probability=1.0)(many, seeded(6)) != level).any(dim=-1).sum(dim=1).eq(1).all()
    assert torch.equal(MaskLeads(probability=1.0)(many[:, :1], seeded(6)), many[:, :1])


def test_halves_are_disjoint_parts_that_are_cut_before_a_record_is_conformed(signal: Tensor) -> None:
    assert (FIRST_HALF.part, SECOND_HALF.part, WHOLE.part) == ((0.0, 0.5), (0.5, 1.0), (0.0, 1.0))
    assert excerpt(begin=0.25, end=0.75).part == (0.25, 0.75)
    assert torch.equal(FIRST_HALF(signal, seeded(0)), signal)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("excerpt", {"begin": 0.5, "end": 0.5}, "0 <= begin < end"),
        ("crop-resize", {"shortest": 0.0}, "'shortest' of 'crop-resize' is 0.0; wanted 0.01 to 1"),
        ("noise", {"most": 1.5}, "'most' of 'noise' is 1.5"),
        ("mask-leads", {"probability": -0.1}, "'probability' of 'mask-leads' is -0.1"),
    ],
)
def test_an_option_out_of_its_range_is_told(name: str, options: dict[str, float], told: str) -> None:
    with pytest.raises(mb.UserError, match=told):
        discover().views[name].build(**options)
