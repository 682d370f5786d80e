"""Views of a record's time: what they keep, how far they go, and that beats are found where they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.plugins import discover
from melp_plugins.views.timing import BeatCutOut, CropResize, Permutation, TimeOut, TimeWarp

SPEC = mb.SignalSpec(rate_hz=100.0, seconds=10.0)
BEATS = (0.5, 1.3, 2.2, 2.9, 4.1, 5.0, 6.2, 7.0, 7.9, 9.2)  # seconds
EACH = [TimeWarp(), TimeOut(), Permutation(), BeatCutOut().at(SPEC)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def walks(batch: int = 4, samples: int = 200) -> Tensor:
    return torch.randn(batch, 12, samples, generator=seeded(7), dtype=torch.float64).cumsum(dim=-1) / 10


def heartbeats(batch: int = 6) -> Tensor:
    """Return records at rest but for sharp QRS complexes and slow T waves at `BEATS`, of another height in each lead."""
    time = torch.arange(SPEC.samples, dtype=torch.float64) / SPEC.rate_hz
    beats = torch.tensor(BEATS, dtype=torch.float64)[:, None]
    beat = torch.exp(-(((time - beats) / 0.015) ** 2)) + 0.3 * torch.exp(-(((time - beats - 0.25) / 0.05) ** 2))
    return (beat.sum(dim=0) * torch.linspace(-1, 2, 12)[:, None]).expand(batch, -1, -1).clone()


@pytest.mark.parametrize("view", EACH, ids=lambda view: type(view).__name__)
def test_scaling_and_shifting_a_record_scale_and_shift_each_view(view: mb.View) -> None:
    signal = walks()
    torch.testing.assert_close(view(3 * signal + 5, seeded(4)), 3 * view(signal, seeded(4)) + 5)


@pytest.mark.parametrize(
    "view",
    [TimeWarp(strength=0.0), TimeOut(longest=0.0), Permutation(segments=1), BeatCutOut(beats=0), CropResize(shortest=1.0)],
)
def test_a_view_of_no_strength_is_the_record(view: mb.View) -> None:
    torch.testing.assert_close(view(walks(), seeded(3)), walks())


def test_a_warp_keeps_both_ends_and_is_nowhere_faster_or_slower_than_it_says() -> None:
    ramp = torch.arange(501, dtype=torch.float64).expand(64, 2, -1)
    for strength in (0.1, 0.5, 0.9):
        seen = TimeWarp(strength=strength)(ramp, seeded(5))
        torch.testing.assert_close(seen[..., 0], ramp[..., 0], atol=1e-9, rtol=0)
        torch.testing.assert_close(seen[..., -1], ramp[..., -1])
        speed = seen.diff(dim=-1)  # of a ramp of slope 1, the speed of time
        assert (speed - 1).abs().max() <= strength + 1e-9
        assert (speed - 1).abs().max() > 0.4 * strength
        assert torch.equal(seen[:, 0], seen[:, 1])  # all leads alike
        assert seen[:, 0, 250].unique().numel() == 64  # each record by itself


def test_a_time_out_is_one_stretch_at_rest_in_all_leads_and_as_long_as_it_says() -> None:
    signal = walks(200)
    level = signal[..., ::4].median(dim=-1, keepdim=True).values
    seen = TimeOut(longest=0.3)(signal, seeded(6))
    rest = (seen != signal).any(dim=1)
    assert torch.equal(seen, torch.where(rest[:, None], level, signal))
    assert (rest.int().diff(dim=-1).abs().sum(dim=-1) <= 2).all()
    share = rest.double().mean(dim=-1)
    assert share.max() <= 0.305
    assert share.max() > 0.28
    assert 0.13 < share.mean() < 0.17
    assert rest[:, 10:-10].any(dim=0).all()  # it may be anywhere


def test_a_permutation_moves_whole_parts_of_all_leads_and_loses_nothing() -> None:
    ramp = torch.arange(300, dtype=torch.float64).expand(200, 3, -1)
    seen = Permutation(segments=5)(ramp, seeded(8))
    assert torch.equal(seen.sort(dim=-1).values, ramp)
    assert torch.equal(seen[:, 0], seen[:, 2])
    breaks = (seen[:, 0].diff(dim=-1) != 1).sum(dim=-1)  # where one part ends and another begins
    assert breaks.max() == 4
    assert breaks.min() == 0
    assert breaks.unique().numel() == 5


def test_beats_are_found_where_they_are() -> None:
    found = BeatCutOut().at(SPEC).found(heartbeats(1)).nonzero()[:, 1] / SPEC.rate_hz
    torch.testing.assert_close(found.double(), torch.tensor(BEATS, dtype=torch.float64), atol=0.05, rtol=0)


@pytest.mark.parametrize("count", [1, 3])
def test_so_many_beats_are_cut_out_from_before_to_after_them_and_the_others_stay(count: int) -> None:
    signal = heartbeats()
    seen = BeatCutOut(beats=count).at(SPEC)(signal, seeded(9))
    place = [round(beat * SPEC.rate_hz) for beat in BEATS]
    gone = seen[:, 11, place] < 0.5 * signal[:, 11, place]  # (B, beats)
    assert (gone.sum(dim=1) == count).all()
    assert gone.any(dim=0).sum() >= min(4, 6 * count)  # drawn, and not always the same
    cut = (seen != signal).any(dim=1)
    for row, beats in enumerate(gone):
        near = torch.zeros(SPEC.samples, dtype=torch.bool)
        for beat in torch.tensor(place)[beats].tolist():
            near[max(beat - 31, 0) : beat + 46] = True
        assert not cut[row][~near].any()


def test_a_record_with_fewer_beats_loses_all_and_a_flat_one_none() -> None:
    cut = BeatCutOut(beats=50).at(SPEC)
    signal = heartbeats(2)
    assert cut(signal, seeded(1)).abs().max() < 0.35 * signal.abs().max()
    flat = torch.ones(2, 12, 300)
    assert torch.equal(cut(flat, seeded(1)), flat)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("time-warp", {"strength": 1.0}, "'strength' of 'time-warp' is 1.0; wanted 0 to 0.9"),
        ("time-out", {"longest": 1.5}, "'longest' of 'time-out' is 1.5"),
        ("permutation", {"segments": 0}, "'segments' of 'permutation' is 0; wanted 1 to 1000"),
        ("beat-cut-out", {"beats": -1}, "'beats' of 'beat-cut-out' is -1"),
        ("lead-dropout", {"leads": -1}, "'leads' of 'lead-dropout' is -1"),
        ("lead-mix", {"degrees": 181.0}, "'degrees' of 'lead-mix' is 181.0; wanted 0 to 180"),
        ("keep-lead", {"lead": "V9"}, "'keep-lead' is to keep 'V9'"),
    ],
)
def test_an_option_out_of_its_range_is_told(name: str, options: dict[str, float], told: str) -> None:
    with pytest.raises(mb.UserError, match=told):
        discover().views[name].build(**options)
