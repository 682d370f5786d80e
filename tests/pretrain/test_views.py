"""Views: shapes, repeatability, and what each change keeps of a record."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from melp_bench.pretrain.views import augment, crop_resize, halves, mask_leads


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def signal() -> Tensor:
    return torch.randn(4, 12, 200, generator=seeded(7)).cumsum(dim=-1) / 10


def test_a_view_is_finite_of_the_same_shape_and_another_record(signal: Tensor) -> None:
    view = augment(signal, seeded(0))
    assert view.shape == signal.shape
    assert view.dtype == signal.dtype
    assert torch.isfinite(view).all()
    assert (view != signal).any(dim=(1, 2)).all()


def test_a_view_is_a_pure_function_of_its_seed(signal: Tensor) -> None:
    assert torch.equal(augment(signal, seeded(1)), augment(signal, seeded(1)))
    assert not torch.equal(augment(signal, seeded(1)), augment(signal, seeded(2)))


def test_a_view_does_not_touch_the_record(signal: Tensor) -> None:
    before = signal.clone()
    augment(signal, seeded(3))
    assert torch.equal(signal, before)


def test_scaling_and_shifting_a_record_scale_and_shift_its_view(signal: Tensor) -> None:
    signal = signal.double()
    view, moved = augment(signal, seeded(4)), augment(3 * signal + 5, seeded(4))
    torch.testing.assert_close(moved, 3 * view + 5)


def test_a_crop_of_a_ramp_is_a_ramp_at_most_as_steep() -> None:
    ramp = torch.linspace(0, 1, 101, dtype=torch.float64).expand(8, 2, -1)
    crop = crop_resize(ramp, seeded(5))
    steps = crop.diff(dim=-1)
    torch.testing.assert_close(steps, steps[..., :1].expand_as(steps))
    assert ((steps >= 0.008 - 1e-12) & (steps <= 0.01 + 1e-12)).all()
    assert (crop.amin() >= 0) & (crop.amax() <= 1)
    assert steps[:, 0, 0].unique().numel() == 8


def test_masked_leads_rest_at_their_level_and_one_is_always_kept(signal: Tensor) -> None:
    many = signal.repeat(100, 1, 1)
    level = torch.full((400, 12, 1), 0.25)
    out = mask_leads(many, level, seeded(6))
    masked = (out == 0.25).all(dim=-1)
    assert torch.equal(out[~masked], many[~masked])
    assert 0.15 < masked.float().mean() < 0.25
    assert not masked.all(dim=1).any()
    assert torch.equal(mask_leads(many[:, :1], level[:, :1], seeded(6)), many[:, :1])


@pytest.mark.parametrize("samples", [200, 201])
def test_halves_are_disjoint_and_equally_long(samples: int) -> None:
    signal = torch.arange(samples, dtype=torch.float32).expand(2, 12, samples)
    first, second = halves(signal)
    assert first.shape == second.shape == (2, 12, 100)
    assert torch.equal(torch.cat([first, second], dim=-1), signal[..., :200])
