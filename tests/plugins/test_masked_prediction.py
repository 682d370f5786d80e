"""Masked prediction, CMSC and ETS: masks, negatives, codes and symmetries; loops as oracles."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import melp_bench as mb
from melp_plugins.ecg.ecg_fm import Wav2Vec2CMSC
from melp_plugins.ecg.wav2vec2 import Size
from melp_plugins.objectives.cmsc import clocs_loss, cmsc, cmsc_loss
from melp_plugins.objectives.ets import ets_loss
from melp_plugins.objectives.masked import (
    LOGIT_TEMPERATURE,
    GumbelQuantizer,
    Masked,
    contrast_logits,
    masked,
    others,
    perplexity,
    span_mask,
)

WIDTH = 32


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Wav2Vec2CMSC:
    monkeypatch.setitem(__import__("melp_plugins.ecg.ecg_fm", fromlist=["SIZES"]).SIZES, "tiny", Size(1, WIDTH, 2, 64))
    torch.manual_seed(0)
    return Wav2Vec2CMSC(size="tiny")


def objective(encoder: Wav2Vec2CMSC, **options: float) -> Masked:
    torch.manual_seed(1)
    made = masked(mb.Sizes(shared=8, embedding=WIDTH, ecg_tokens=WIDTH), **options)  # type: ignore[arg-type]
    made.attach(SimpleNamespace(encoder=encoder))  # type: ignore[arg-type]
    return made


def test_span_masks_cover_whole_spans_equally_in_every_record() -> None:
    torch.manual_seed(0)
    mask = span_mask(64, 156, probability=0.65, length=10, device=torch.device("cpu"))
    counts = mask.sum(1)
    assert counts.unique().numel() == 1
    assert 0.3 < counts[0] / 156 < 0.65  # overlaps make it less than the probability
    assert (mask.sum(0) > 0).all()
    one = span_mask(32, 50, probability=0.2, length=10, device=torch.device("cpu"))
    assert one.shape == (32, 50)
    single = span_mask(16, 20, probability=0.5, length=10, device=torch.device("cpu"))  # one span: a run of ten
    assert (single.sum(1) == 10).all()
    assert all((row.nonzero()[-1] - row.nonzero()[0] == 9).item() for row in single)


def test_negatives_are_uniform_over_the_other_masked_tokens() -> None:
    drawn = torch.arange(4).expand(1, 5, 4)
    got = others(drawn)
    for own in range(5):
        assert sorted(got[0, own].tolist()) == [index for index in range(5) if index != own]


def test_contrast_logits_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    context, targets = (torch.randn(2, 5, 4, generator=generator) for _ in range(2))
    codes = torch.randint(0, 2, (2, 5, 2), generator=generator)
    negatives = others(torch.randint(0, 4, (2, 5, 6), generator=generator))
    got = contrast_logits(context, targets, codes, negatives)
    for b in range(2):
        for m in range(5):
            for k, other in enumerate([m, *negatives[b, m].tolist()]):
                want = F.cosine_similarity(context[b, m], targets[b, other], dim=0) / LOGIT_TEMPERATURE
                if k and torch.equal(codes[b, m], codes[b, other]):
                    want = torch.tensor(-math.inf)
                torch.testing.assert_close(got[b, m, k], want)


def test_perplexity_counts_the_codes_in_use() -> None:
    assert perplexity(torch.full((2, 320), 1 / 320)).item() == pytest.approx(640, rel=1e-3)
    assert perplexity(F.one_hot(torch.tensor([0, 5]), 8).float()).item() == pytest.approx(2.0, rel=1e-5)


def test_the_quantizer_is_deterministic_when_evaluated_and_its_vectors_are_its_codes() -> None:
    torch.manual_seed(0)
    quantizer = GumbelQuantizer(channels=6, codes=7, groups=2, width=8)
    local = torch.randn(3, 5, 6)
    first, second = quantizer.eval()(local, 2.0), quantizer(local, 0.5)
    assert torch.equal(first.vectors, second.vectors)
    rows = quantizer.vars[0].detach().view(2, 7, 4)
    want = torch.cat([rows[0][first.codes[..., 0]], rows[1][first.codes[..., 1]]], dim=-1)
    torch.testing.assert_close(first.vectors.detach(), want)
    drawn = {tuple(quantizer.train()(local, 2.0).codes.flatten().tolist()) for _ in range(5)}
    assert len(drawn) > 1


def test_masked_prediction_reaches_the_encoder_and_every_part_of_the_head(encoder: Wav2Vec2CMSC) -> None:
    model = objective(encoder, negatives=20)
    loss, count = model(torch.randn(3, 12, 1600), encoder)
    assert count > 3
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.parameters())
    assert all(p.grad is not None for p in encoder.parameters())
    assert int(model.updates) == 1


def test_a_few_steps_learn_to_tell_a_token_from_the_others(encoder: Wav2Vec2CMSC) -> None:
    model = objective(encoder, negatives=10, lead_mask=0.0)
    parameters = [*model.parameters(), *encoder.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3)
    signal = torch.sin(torch.linspace(0, 60, 800) + torch.arange(12)[:, None]) + 0.1 * torch.randn(4, 12, 800)
    losses = []
    for _ in range(60):
        loss, _ = model(signal, encoder)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])


def test_too_short_a_signal_is_one_clear_line(encoder: Wav2Vec2CMSC) -> None:
    with pytest.raises(mb.UserError, match="longer signals"):
        objective(encoder, length=1, probability=0.05)(torch.zeros(2, 12, 160), encoder)
    with pytest.raises(mb.UserError, match="spans of 10 of 10 tokens"):
        objective(encoder)(torch.zeros(2, 12, 160), encoder)


@pytest.mark.parametrize("loss", [cmsc_loss, lambda a, b, p, _: clocs_loss(a, b, p)], ids=["melp", "fairseq"])
def test_cmsc_is_symmetric_and_blind_to_the_order_of_records(loss: object) -> None:
    torch.manual_seed(0)
    a, b, patients, scale = torch.randn(6, 4), torch.randn(6, 4), torch.tensor([0, 1, 0, 2, 3, 3]), torch.tensor(2.0)
    order = torch.randperm(6)
    value = loss(a, b, patients, scale)  # type: ignore[operator]
    torch.testing.assert_close(loss(b, a, patients, scale), value)  # type: ignore[operator]
    torch.testing.assert_close(loss(a[order], b[order], patients[order], scale), value)  # type: ignore[operator]


def test_cmsc_of_strangers_is_plain_contrast() -> None:
    torch.manual_seed(0)
    a, b, patients = torch.randn(5, 4), torch.randn(5, 4), torch.arange(5)
    logits = 10 * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
    want = (F.cross_entropy(logits, patients) + F.cross_entropy(logits.T, patients)) / 2
    torch.testing.assert_close(clocs_loss(a, b, patients), want)
    torch.testing.assert_close(cmsc_loss(a, b, patients, torch.tensor(math.log(10.0))), want)


def test_cmsc_is_told_whose_halves_it_compares() -> None:
    torch.manual_seed(0)
    first, second = (mb.Features(record=torch.randn(4, 3), embedding=torch.randn(4, 3)) for _ in range(2))
    patients = torch.tensor([7, 3, 7, 5])
    got = cmsc(mb.Sizes(shared=3, embedding=3, ecg_tokens=3), form="fairseq")(first, second, patients)
    torch.testing.assert_close(got, clocs_loss(first.record, second.record, patients))
    assert not torch.allclose(got, clocs_loss(first.record, second.record, torch.arange(4)))


def test_halves_of_one_patient_are_told_to_be_near_and_of_two_to_be_apart() -> None:
    def records(*rows: list[float]) -> Tensor:
        return torch.tensor(rows)

    near, far = records([1, 0], [1, 0.1], [0, 1]), records([1, 0], [0, 1], [1, 0.1])
    patients = torch.tensor([4, 4, 9])
    scale = torch.tensor(2.0)
    assert cmsc_loss(near, near, patients, scale) < cmsc_loss(far, far, patients, scale)
    assert clocs_loss(near, near, patients) < clocs_loss(far, far, patients)


def test_ets_of_nothing_is_ln_2_and_goes_to_zero_for_clear_pairs() -> None:
    zeros = torch.zeros(3, 4)
    assert ets_loss(zeros, zeros, torch.ones(3)).item() == pytest.approx(math.log(2))
    clear = 2 * torch.eye(3) - 1
    x, y = 10 * torch.eye(3), 10 * clear
    assert ets_loss(x, y, torch.ones(3)).item() < 1e-6
    assert ets_loss(x, y, torch.zeros(3)).item() > 10
