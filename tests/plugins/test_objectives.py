"""Objectives: what every one must be, slow oracles of two, and what captioning may not see."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.testing.objective_subject import called, mean_of
from melp_plugins.objectives import beat as beat_module
from melp_plugins.objectives.beat import beat, beat_alignment_loss
from melp_plugins.objectives.contrast import rhythm
from melp_plugins.objectives.merl import cma, uma
from melp_plugins.objectives.simclr import nt_xent, simclr
from melp_plugins.objectives.supervised import supervised
from melp_plugins.objectives.token import Token, token

SIZES = mb.Sizes(shared=16, embedding=16, ecg_tokens=16, text_tokens=16, vocab=11, pad_id=0, classes=3)
PAIRED = {"rhythm": rhythm, "beat": beat, "cma": cma}
NAMES = ["rhythm", "beat", "token", "cma", "uma", "simclr", "supervised"]
BUILD: dict[str, Callable[..., mb.Objective]] = {
    **PAIRED, "token": token, "uma": uma, "simclr": simclr, "supervised": supervised
}  # fmt: skip
B, Q, S, N = 6, 4, 3, 7


def pairs() -> tuple[mb.Features, mb.Features]:
    """Return records and reports that share a direction per pair, with ragged sentences and words."""
    g = torch.Generator().manual_seed(5)
    core = torch.randn(B, 16, generator=g)

    def near(*middle: int) -> Tensor:
        shape = (B, *middle, 16)
        return (core.view(B, *([1] * len(middle)), 16) + 0.3 * torch.randn(shape, generator=g)).requires_grad_()

    sentences = torch.arange(S) < torch.tensor([1, 2, 3, 3, 1, 2])[:, None]
    words = torch.arange(N) < torch.tensor([2, 4, 7, 6, 3, 5])[:, None]
    ids = torch.randint(1, 11, (B, N), generator=g) * words
    ecg = mb.Features(record=near(), embedding=near(), segments=near(Q), tokens=near(5))
    text = mb.Features(near(), near(), near(S), sentences, near(N), words, ids)
    return ecg, text


def order(features: mb.Features, index: Tensor) -> mb.Features:
    return features.apply({name: tensor[index] for name, tensor in features.present().items()})


def evaluate(objective: mb.Objective, ecg: mb.Features, text: mb.Features, index: Tensor | None = None) -> Tensor:
    index = torch.arange(B) if index is None else index
    labels = (torch.arange(B)[:, None] % torch.tensor([2, 3, 4]) == 0).float()[index]
    ecg, text = order(ecg, index), order(text, index)
    given = {"ecg": ecg, "text": text, "view1": ecg, "view2": text, "labels": labels}
    return mean_of(called(objective, given))


@pytest.fixture(params=NAMES)
def objective(request: pytest.FixtureRequest) -> mb.Objective:
    torch.manual_seed(0)
    return BUILD[request.param](SIZES).eval()


def test_it_is_finite_and_zero_dimensional(objective: mb.Objective) -> None:
    loss = evaluate(objective, *pairs())
    assert loss.shape == ()
    assert torch.isfinite(loss)


def test_it_is_unmoved_by_permuting_the_pairs(objective: mb.Objective) -> None:
    ecg, text = pairs()
    index = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(evaluate(objective, ecg, text, index), evaluate(objective, ecg, text), rtol=1e-4, atol=1e-5)


def test_it_trains_all_that_it_has(objective: mb.Objective) -> None:
    evaluate(objective, *pairs()).backward()
    assert [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", ["rhythm", "beat", "token", "cma", "simclr"])
def test_it_reaches_both_sides(name: str) -> None:
    ecg, text = pairs()
    evaluate(BUILD[name](SIZES), ecg, text).backward()
    for side in (ecg, text):
        grads = [t.grad for t in side.present().values() if t.is_leaf and t.grad is not None]
        assert any(g.abs().sum() > 0 for g in grads)


@pytest.mark.parametrize("name", [*PAIRED, "simclr"])
def test_true_pairs_cost_less_than_shuffled_ones(name: str) -> None:
    torch.manual_seed(0)
    objective = BUILD[name](SIZES).eval()
    ecg, text = pairs()
    assert evaluate(objective, ecg, text) < evaluate(objective, ecg, order(text, torch.arange(B).roll(1)))


def test_captioning_learns_which_report_belongs_to_which_record() -> None:
    torch.manual_seed(0)
    objective = token(SIZES)
    ecg, text = pairs()
    ecg, text = (f.apply({n: t.detach() for n, t in f.present().items()}) for f in (ecg, text))
    text = text.apply({"tokens": torch.zeros_like(text.present()["tokens"])})  # only the record can tell the words
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        evaluate(objective, ecg, text).backward()
        optimizer.step()
    assert evaluate(objective, ecg, text) < 0.8 * evaluate(objective, ecg, order(text, torch.arange(B).roll(1)))


# ------------------------------------------------------------------------------------------------------------ oracles


def slow_beat(beats: Tensor, sentences: list[Tensor], *, t1: float, t2: float, t3: float, mean: bool) -> Tensor:
    """Return the loss with one loop per report and record, as the definition reads."""
    rows = []
    for words in sentences:
        row = []
        for record in beats:
            attention = ((record @ words.T).softmax(dim=1).T * t1).softmax(dim=1)  # (sentences, beats)
            warm = (t2 * F.cosine_similarity(words, attention @ record, dim=1)).exp()
            row.append((warm.mean() if mean else warm.sum()).log())
        rows.append(torch.stack(row))
    logits, target = t3 * torch.stack(rows), torch.arange(len(beats))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@pytest.mark.parametrize("aggregation", ["sum", "mean"])
def test_beat_alignment_equals_a_loop_over_reports_and_records(aggregation: str) -> None:
    ecg, text = pairs()
    beats, padded, mask = (
        ecg.present()["segments"].double(),
        text.present()["segments"].double(),
        text.present()["segments_mask"],
    )
    got, _ = beat_alignment_loss(beats, padded, mask, temperature1=2.0, temperature3=3.0, aggregation=aggregation)
    ragged = [row[keep] for row, keep in zip(padded, mask, strict=True)]
    want = slow_beat(beats, ragged, t1=2.0, t2=5.0, t3=3.0, mean=aggregation == "mean")
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("most", [3, 21], ids=["sentences", "as many as words"])
def test_beat_alignment_in_parts_made_again_is_the_loop_with_its_gradients(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(4)
    beats, padded = (torch.randn(B, n, 8, generator=g, dtype=torch.float64).requires_grad_() for n in (Q, most))
    mask = torch.rand(B, most, generator=g) < 0.6  # anywhere, not only first
    mask[:, -1] |= ~mask.any(dim=1)
    want = slow_beat(beats, [row[keep] for row, keep in zip(padded, mask, strict=True)], t1=2.0, t2=5.0, t3=3.0, mean=False)
    wanted = torch.autograd.grad(want, (beats, padded))
    assert not wanted[1][~mask].any()
    for part in (1 << 22, 16):
        monkeypatch.setattr(beat_module, "PART", part)
        got, _ = beat_alignment_loss(beats, padded, mask, temperature1=2.0, temperature3=3.0)
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
        for found, gradient in zip(torch.autograd.grad(got, (beats, padded)), wanted, strict=True):
            torch.testing.assert_close(found, gradient, rtol=1e-8, atol=1e-11)


def test_masked_sentences_and_beats_do_not_matter() -> None:
    ecg, text = pairs()
    beats, sentences, mask = ecg.present()["segments"], text.present()["segments"], text.present()["segments_mask"]
    want, _ = beat_alignment_loss(beats, sentences, mask)
    more = torch.cat([beats, 9 * torch.ones(B, 2, 16)], dim=1)
    keep = torch.arange(Q + 2).expand(B, -1) < Q
    noisy = torch.where(mask[..., None], sentences, 9 * torch.ones(()))
    got, attention = beat_alignment_loss(more, noisy, mask, beats_mask=keep)
    torch.testing.assert_close(got, want)
    assert not attention[:, :, Q:].any()


def test_beat_gradients_are_finite_where_a_sentence_is_zero_and_padding_gets_none() -> None:
    ecg, text = pairs()
    beats, mask = ecg.present()["segments"], text.present()["segments_mask"]
    sentences = torch.zeros(B, S, 16, requires_grad=True)
    beat_alignment_loss(beats, sentences, mask)[0].backward()
    assert sentences.grad is not None
    assert torch.isfinite(sentences.grad).all()
    assert not sentences.grad[~mask].any()


def test_nt_xent_equals_a_loop_over_anchors() -> None:
    g = torch.Generator().manual_seed(6)
    one, two = (torch.randn(5, 8, generator=g, dtype=torch.float64) for _ in range(2))
    views = [v / v.norm() for v in (*one, *two)]
    total = 0.0
    for i, anchor in enumerate(views):
        others = {j: math.exp(float(anchor @ other) / 0.2) for j, other in enumerate(views) if j != i}
        total -= math.log(others[(i + 5) % 10] / sum(others.values()))
    assert float(nt_xent(one, two, temperature=0.2)) == pytest.approx(total / 10, rel=1e-12)


@pytest.mark.parametrize("name", ["rhythm", "cma"])
def test_a_batch_of_equal_records_costs_the_logarithm_of_its_size(name: str) -> None:
    ecg, text = pairs()
    same = ecg.apply({"record": torch.ones(B, 16)})
    want = math.log(B) * (2 if name == "cma" else 1)
    loss = evaluate(BUILD[name](SIZES), same, text.apply({"record": torch.ones(B, 16)}))
    assert loss.item() == pytest.approx(want, rel=1e-5)


def test_the_scale_of_rhythm_is_clamped() -> None:
    objective, (ecg, text) = rhythm(SIZES), pairs()
    losses = []
    for value in (math.log(100.0), 9.0):
        objective.log_scale.data.fill_(value)
        losses.append(evaluate(objective, ecg, text).item())
    assert losses[0] == losses[1]


def test_supervised_equals_the_closed_form_at_zero_weights() -> None:
    objective = supervised(SIZES)
    for parameter in objective.parameters():
        parameter.data.zero_()
    assert float(evaluate(objective, *pairs())) == pytest.approx(math.log(2))


# --------------------------------------------------------------------------------------------------------- captioning


def built_token() -> Token:
    torch.manual_seed(0)
    return token(SIZES).eval()


@pytest.mark.parametrize("changed", range(1, N - 1))
def test_changing_a_later_word_moves_no_earlier_logit(changed: int) -> None:
    objective, (ecg, text) = built_token(), pairs()
    tokens = text.present()["tokens"].detach().clone()
    tokens[:, changed] += torch.linspace(-1, 1, tokens.shape[-1])  # not a constant: layer norm would take that out
    before, after = objective.logits(ecg, text), objective.logits(ecg, text.apply({"tokens": tokens}))
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert (before[:, changed:] - after[:, changed:]).abs().max() > 1e-3


def test_padding_is_not_counted_and_not_read() -> None:
    objective, (ecg, text) = built_token(), pairs()
    loss, count = objective(ecg, text)
    assert count == text.present()["tokens_mask"][:, 1:].sum()
    logits, ids, mask = objective.logits(ecg, text), text.present()["token_ids"], text.present()["tokens_mask"]
    terms = [-logits[b, n].log_softmax(0)[ids[b, n + 1]] for b in range(B) for n in range(N - 1) if mask[b, n + 1]]
    torch.testing.assert_close(loss, torch.stack(terms).mean())
    noisy = text.apply({"tokens": torch.where(mask[..., None], text.present()["tokens"], torch.full((), 7.0))})
    torch.testing.assert_close(objective(ecg, noisy)[0], loss)


def test_captioning_a_batch_without_a_word_costs_nothing() -> None:
    ecg, text = pairs()
    loss, count = built_token()(ecg, text.apply({"tokens_mask": torch.zeros(B, N, dtype=torch.bool)}))
    assert (float(loss), float(count)) == (0.0, 0.0)


def test_queries_pool_the_record_for_the_decoder() -> None:
    objective, (ecg, text) = token(SIZES, queries=3), pairs()
    evaluate(objective, ecg, text).backward()
    assert objective.decoder.pool is not None
    assert objective.decoder.pool.query.grad is not None


# ----------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("build", "sizes", "options"),
    [
        (token, mb.Sizes(shared=4, embedding=4, ecg_tokens=4), {}),
        (token, mb.Sizes(shared=4, embedding=4, ecg_tokens=4, text_tokens=4, vocab=9, causal_text=False), {}),
        (token, SIZES, {"heads": 3}),
        (supervised, mb.Sizes(shared=4, embedding=4, ecg_tokens=4), {}),
        (beat, SIZES, {"aggregation": "max"}),
        (cma, SIZES, {"form": "clip"}),
        (uma, SIZES, {"temperature": 0.0}),
        (simclr, SIZES, {"temperature": -1.0}),
    ],
)
def test_what_does_not_fit_is_the_users_mistake(
    build: Callable[..., mb.Objective], sizes: mb.Sizes, options: dict[str, object]
) -> None:
    with pytest.raises(mb.UserError):
        build(sizes, **options)


def test_only_what_the_paper_gathers_is_gathered() -> None:
    gathers = {name for name in NAMES if BUILD[name](SIZES).needs_global_batch}
    assert gathers == {"rhythm", "cma", "uma", "simclr"}
    assert beat(SIZES, global_batch=True).needs_global_batch
