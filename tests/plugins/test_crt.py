"""CRT: a slow rewrite, what is dropped, and the two spectra."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.testing.small import SIZES
from melp_plugins.ecg.patch_transformer import PatchTransformer, patch_transformer
from melp_plugins.ecg.resnet1d import resnet1d_18
from melp_plugins.objectives.crt import CRT, crt, discrimination, spectrum

PLACES = 10


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small(*, per_lead: bool = False) -> tuple[CRT, PatchTransformer]:
    torch.manual_seed(0)
    encoder = patch_transformer(width=16, heads=2, layers=1, patch=20, seconds=2.0, per_lead=per_lead).eval()
    objective = crt(SIZES, width=16, depth=1, heads=1)
    objective.attach(SimpleNamespace(encoder=encoder))  # type: ignore[arg-type]
    return objective.eval(), encoder


def drop(rows: int) -> tuple[Tensor, Tensor]:
    """Return which tokens and which spectral patches of two records are dropped."""
    time, spectral = torch.zeros(2, rows, PLACES, dtype=torch.bool), torch.zeros(2, PLACES // 2, dtype=torch.bool)
    time[0, :, 2:5] = time[1, :, 6:9] = spectral[0, :2] = spectral[1, 3:] = True
    return time.flatten(1), spectral


@pytest.mark.parametrize("per_lead", [False, True])
def test_the_loss_equals_the_three_errors_of_patches_cut_by_hand_and_the_constraint(per_lead: bool) -> None:
    objective, encoder = small(per_lead=per_lead)
    signal, (time, spectral) = noise(2, 12, 200), drop(encoder.token_rows)
    got = objective.loss(signal, encoder, time, spectral)
    standard = (signal - signal.mean(dim=(1, 2), keepdim=True)) / signal.std(dim=(1, 2), keepdim=True)
    found = torch.fft.fft(standard, norm="ortho")[..., 1:101]
    magnitude, phase = (1 + found.abs()).log(), torch.atan2(found.imag, found.real) / math.pi
    if per_lead:
        wanted = [torch.stack([standard[:, r, 20 * p : 20 * p + 20] for r in range(12) for p in range(PLACES)], dim=1)]
    else:
        wanted = [torch.stack([standard[:, :, 20 * p : 20 * p + 20].flatten(1) for p in range(PLACES)], dim=1)]
    wanted += [
        torch.stack([part[:, :, 20 * q : 20 * q + 20].flatten(1) for q in range(5)], dim=1) for part in (magnitude, phase)
    ]
    states = encoder.contextual(encoder.local(signal), time, None)
    given = [layer(part) for layer, part in zip(objective.embed, (states, wanted[1], wanted[2]), strict=True)]
    tokens = []
    for kind, (hidden, part) in enumerate(zip((time, spectral, spectral), given, strict=True)):
        for n in range(part.shape[1]):
            token = [objective.absent[kind] if hidden[b, n] else part[b, n] for b in range(2)]
            tokens.append(torch.stack(token) + objective.kind[kind])
    rebuilt = objective.norm(objective.blocks(torch.stack(tokens, dim=1) + objective.positions))
    ends = [0, part0 := given[0].shape[1], part0 + 5, part0 + 10]
    errors = [
        (objective.rebuild[kind](rebuilt[:, ends[kind] : ends[kind + 1]]) - wanted[kind]).square().mean() for kind in range(3)
    ]
    before, after = objective.before(torch.cat(given, dim=1)), objective.after(rebuilt)
    left, apart = ~torch.cat([time, spectral, spectral], dim=1), []
    for b in range(2):
        seen = left[b].nonzero().flatten().tolist()
        cosines = [torch.cosine_similarity(before[b, i], after[b, j], dim=0) for i in seen for j in seen if i != j]
        apart.append(torch.stack(cosines).exp().sum().log())
    want = 0.5 * errors[0] + 0.25 * errors[1] + 0.25 * errors[2] + 1e-4 * torch.stack(apart).mean()
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_a_wave_has_one_magnitude_and_its_phase() -> None:
    time = torch.arange(200) / 200
    magnitude, phase = spectrum(torch.cos(2 * math.pi * (7 * time + 0.125))[None, None])
    assert magnitude.shape == phase.shape == (1, 1, 100)
    assert magnitude[0, 0].exp().sub(1).round(decimals=3).nonzero().flatten().tolist() == [6]  # 7 cycles: the first is 1
    assert phase[0, 0, 6].item() == pytest.approx(0.25, abs=1e-4)  # of pi


def test_tokens_that_are_alike_cost_the_most_and_opposite_ones_the_least() -> None:
    seen = torch.ones(1, 4, dtype=torch.bool)
    same = torch.ones(1, 4, 3)
    assert discrimination(same, same, seen).item() == pytest.approx(math.log(12) + 1)
    assert discrimination(same, -same, seen).item() == pytest.approx(math.log(12) - 1)


def test_the_share_that_is_dropped_follows_the_steps_between_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, encoder = small()
    counts: dict[float, tuple[int, int]] = {}
    for progress in (0.0, 0.5, 1.0):
        monkeypatch.setattr(
            objective,
            "loss",
            lambda s, e, t, f, at=progress: counts.update({at: (int(t[0].sum()), int(f[0].sum()))}) or s.sum(),
        )
        objective(noise(3, 12, 200), encoder, progress)
    assert counts == {0.0: (3, 1), 0.5: (5, 2), 1.0: (7, 3)}  # of 10 and of 5, at 30, 50 and 70 %
    assert objective.keep == "last"


def test_dropped_patches_reach_the_loss_as_targets_only() -> None:
    objective, encoder = small()
    signal, (time, spectral) = noise(2, 12, 200), drop(1)
    kept = objective.patches(signal)
    changed = tuple(torch.where(m[..., None], p + 1, p) for m, p in zip((time, spectral, spectral), kept, strict=True))
    seen: list[Tensor] = []
    handle = objective.blocks.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.no_grad():
        for part in (kept, changed):
            objective.patches = lambda _, part=part: part  # type: ignore[method-assign]
            objective.loss(signal, encoder, time, spectral)
    handle.remove()
    torch.testing.assert_close(seen[0], seen[1])


def test_crt_says_what_it_cannot_train() -> None:
    objective, encoder = small()
    assert objective.fits(encoder) is None
    assert "masked encoding" in str(objective.fits(resnet1d_18(width=2)))
    assert "has 2 in a row" in str(objective.fits(patch_transformer(width=16, heads=2, patch=100, seconds=2.0)))
    for options in ({"least": 0.0}, {"least": 0.8}, {"most": 1.0}, {"depth": 0}, {"discrimination_weight": -1.0}):
        with pytest.raises(mb.UserError, match="'crt' with least"):
            crt(SIZES, **options)  # type: ignore[arg-type]
