"""HeartLang's stages: the vocabulary's loss and how it learns, ranks as parts of a batch, and names of hidden words."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import melp_bench as mb
from melp_bench.testing.small import SIZES, SmallEncoder
from melp_plugins.ecg.heartlang import HeartLangInTraining, heartlang_in_training
from melp_plugins.ecg.heartlang_codes import DECAY, Quantizer
from melp_plugins.objectives.heartlang_words import HeartLangCodebook, HeartLangSentences

CODES = 12


@pytest.fixture
def encoder() -> HeartLangInTraining:
    torch.manual_seed(0)
    return heartlang_in_training(width=16, depth=1, heads=1, hidden=16, codes=CODES, hidden_of_codes=16)


@pytest.fixture(scope="module")
def records() -> Tensor:
    """Return records (4, 12, 1000) of sharp beats, each with another rate and shape."""
    time = torch.arange(1000) / 100
    beats = [sum(torch.exp(-0.5 * ((time - at) / 0.02) ** 2) for at in torch.arange(0.4, 10, 0.7 + 0.1 * n)) for n in range(4)]
    gain = torch.linspace(0.5, 2, 12)[:, None]
    return torch.stack([gain * (beat + 0.2 * n * torch.sin(9 * time)) for n, beat in enumerate(beats)])


def attached(objective: mb.Objective, encoder: mb.ECGEncoder) -> mb.Objective:
    objective.attach(SimpleNamespace(encoder=encoder))  # type: ignore[arg-type]
    return objective.train()


def told(objective: HeartLangCodebook, encoder: HeartLangInTraining, signal: Tensor) -> Mapping[str, Tensor]:
    return objective.local(signal, encoder)


def test_the_codebooks_loss_is_rebuilding_and_distance_as_the_published_model_counts_it(
    encoder: HeartLangInTraining, records: Tensor
) -> None:
    objective = HeartLangCodebook(SIZES).eval()
    got = objective(**told(objective, encoder, records), encoder=encoder)
    _, want = encoder.vqhbr.eval()(encoder.tokenizer(records))
    torch.testing.assert_close(got, want)


def test_two_parts_of_a_batch_are_the_batch(encoder: HeartLangInTraining, records: Tensor) -> None:
    """As on two ranks: each makes its own, and both hand on all of it."""
    objective = attached(HeartLangCodebook(SIZES), encoder)
    encoder.vqhbr.quantize.cluster_size.fill_(1.0)
    tables, losses, before = [], [], encoder.vqhbr.quantize.embedding.weight.clone()
    for parts in (records.split(4), records.split(2)):
        encoder.vqhbr.quantize.embedding.weight.copy_(before)
        made = [told(objective, encoder, part) for part in parts]
        gathered = {name: torch.cat([part[name] for part in made]) for name in made[0]}
        losses.append(objective(**gathered, encoder=encoder))
        tables.append(encoder.vqhbr.quantize.embedding.weight.clone())
    assert objective.needs_global_batch
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(tables[0], tables[1])
    assert not torch.equal(tables[0], before)


def test_the_first_batchs_words_become_codes_and_later_batches_move_them() -> None:
    quantizer = Quantizer(CODES, 6, count_in_eval=False)
    unit = F.normalize(torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    real = torch.arange(20).expand(2, -1) < 15
    quantizer.learn(unit, quantizer.named(unit).codes, real)
    words = unit[real]
    assert all((words - code).abs().sum(dim=1).min() == 0 for code in quantizer.embedding.weight)
    assert float(quantizer.cluster_size.sum()) == pytest.approx((1 - DECAY) * 40)
    before, codes = quantizer.embedding.weight.clone(), quantizer.named(unit).codes
    quantizer.learn(unit, codes, real)
    for code in range(CODES):
        named = unit[codes == code]
        moved = DECAY * before[code] + (1 - DECAY) * F.normalize(named.sum(dim=0), dim=0) if len(named) else before[code]
        torch.testing.assert_close(quantizer.embedding.weight[code], F.normalize(moved, dim=0) if len(named) else moved)


def test_codes_rest_in_validation(encoder: HeartLangInTraining, records: Tensor) -> None:
    objective = attached(HeartLangCodebook(SIZES), encoder).eval()
    before = {n: t.clone() for n, t in encoder.vqhbr.quantize.state_dict().items()}
    objective(**told(objective, encoder, records), encoder=encoder)  # type: ignore[arg-type]
    assert all(torch.equal(t, before[n]) for n, t in encoder.vqhbr.quantize.state_dict().items())


def test_hidden_words_cost_the_cross_entropy_of_their_codes(encoder: HeartLangInTraining, records: Tensor) -> None:
    objective = attached(HeartLangSentences(SIZES), encoder)
    encoder.eval()
    torch.manual_seed(7)
    loss, count = objective(records, encoder)
    torch.manual_seed(7)
    chance = torch.rand(4, 256)
    sentence = encoder.tokenizer(records)
    codes, terms = encoder.vqhbr.encode(sentence).codes, []
    masked = torch.zeros(4, 256, dtype=torch.bool)
    for b in range(4):
        masked[b, chance[b].argsort()[128:]] = True
    states = encoder.backbone(sentence.words, sentence.leads, sentence.seconds, masked)[:, 1:]
    for b in range(4):
        for w in range(256):
            if masked[b, w] and sentence.leads[b, w] > 0:
                terms.append(-encoder.backbone.lm_head(states[b, w]).log_softmax(0)[codes[b, w]])
    assert int(count) == len(terms) > 100
    torch.testing.assert_close(loss, torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)


def test_each_stage_trains_its_own_part_and_features_read_neither_codes_nor_names(
    encoder: HeartLangInTraining, records: Tensor
) -> None:
    codebook = attached(HeartLangCodebook(SIZES), encoder)
    codebook(**told(codebook, encoder, records), encoder=encoder).backward()  # type: ignore[arg-type]
    reached = {n.partition(".")[0] for n, p in encoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"vqhbr"}
    encoder.zero_grad(set_to_none=True)
    sentences = attached(HeartLangSentences(SIZES), encoder)
    before = {n: t.clone() for n, t in encoder.vqhbr.state_dict().items()}
    sentences(records, encoder)[0].backward()
    reached = {n.partition(".")[0] for n, p in encoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"backbone"}
    assert all(torch.equal(t, before[n]) for n, t in encoder.vqhbr.state_dict().items())
    encoder.zero_grad(set_to_none=True)
    encoder(records).embedding.sum().backward()
    assert not any(p.grad is not None for n, p in encoder.named_parameters() if n.startswith("vqhbr") or "lm_head" in n)


def test_a_record_without_a_beat_costs_nothing(encoder: HeartLangInTraining) -> None:
    objective = attached(HeartLangSentences(SIZES), encoder)
    loss, count = objective(torch.zeros(2, 12, 1000), encoder)
    assert (loss.item(), count.item()) == (0.0, 0.0)


def test_another_encoder_is_told_which_one_is_needed() -> None:
    for objective in (HeartLangCodebook(SIZES), HeartLangSentences(SIZES)):
        assert "'heartlang-in-training'" in str(objective.fits(SmallEncoder()))
        with pytest.raises(mb.NotApplicable, match="needs HeartLang's encoder"):
            attached(objective, SmallEncoder())
    with pytest.raises(mb.UserError, match="option 'share'"):
        HeartLangSentences(SIZES, share=1.0)
    with pytest.raises(mb.UserError, match="wanted two codes"):
        heartlang_in_training(codes=1)
