"""Masked words: what is hidden, how it is counted, and that every word is seen from both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.objectives.masked_words import MaskedWords, hide, masked_words
from melp_plugins.text.bert import Bert, bert

REPORTS = ["sinus rhythm. normal axis.", "atrial fibrillation with a rate of 112", "left axis deviation. old infarction.", ""]
SIZES = mb.Sizes(shared=4, embedding=4, ecg_tokens=4, text_tokens=8, vocab=200)


def test_fifteen_in_a_hundred_words_are_guessed_and_only_words() -> None:
    torch.manual_seed(0)
    ids = torch.arange(400_000).reshape(1000, 400) % 90 + 10
    word = ids % 2 == 0
    batch = mb.TextBatch(ids, torch.ones_like(word), torch.where(word, 0, -1))
    shown, guessed = hide(batch, mask_id=3, vocab=100)
    assert not (guessed & ~word).any()
    assert torch.equal(shown.ids[~guessed], ids[~guessed])
    assert guessed.sum() / word.sum() == pytest.approx(0.15, abs=0.005)
    hidden = shown.ids[guessed] == 3
    other = (shown.ids[guessed] != ids[guessed]) & ~hidden
    assert hidden.float().mean() == pytest.approx(0.8 + 0.1 / 100, abs=0.01)
    assert other.float().mean() == pytest.approx(0.1 * 98 / 100, abs=0.01)


class Ignorant(mb.TextEncoder):
    """Knows nothing: every word is equally likely."""

    width, vocab_size, pad_id, mask_id = 8, 200, 0, 1

    def tokenize(self, reports: Sequence[str]) -> mb.TextBatch:
        raise NotImplementedError

    def forward(self, batch: mb.TextBatch) -> mb.Features:
        raise NotImplementedError

    def both_ways(self, batch: mb.TextBatch) -> Tensor:
        return torch.ones(*batch.ids.shape, 8)

    def word_table(self) -> Tensor:
        return torch.zeros(200, 8)

    def guessing_head(self) -> dict[str, Tensor]:
        return {}


def test_who_knows_nothing_has_the_vocabulary_for_a_perplexity() -> None:
    torch.manual_seed(0)
    ids = torch.randint(2, 200, (40, 20))
    batch = mb.TextBatch(ids, torch.ones_like(ids).bool(), torch.zeros_like(ids))
    mean, count = masked_words(SIZES)(batch, Ignorant())
    assert math.exp(mean.item()) == pytest.approx(200.0, rel=1e-5)
    assert 60 < count.item() < 180
    silent = mb.TextBatch(ids, batch.mask, torch.full_like(ids, -1))
    assert [value.item() for value in masked_words(SIZES)(silent, Ignorant())] == [0.0, 0.0]


def encoder(*, causal: bool) -> Bert:
    torch.manual_seed(3)
    return bert(mb.TextSource(reports=REPORTS), layers=2, width=8, heads=2, causal=causal, max_tokens=24).eval()


@pytest.mark.parametrize("causal", [True, False])
def test_the_loss_is_that_of_a_slow_loop_over_reports_without_padding(causal: bool) -> None:
    text = encoder(causal=causal)
    sizes = mb.Sizes(shared=4, embedding=4, ecg_tokens=4, text_tokens=8, vocab=text.vocab_size)
    objective, batch = masked_words(sizes, chosen=0.5), text.tokenize(REPORTS)
    torch.manual_seed(5)
    mean, count = objective(batch, text)
    torch.manual_seed(5)
    shown, guessed = hide(batch, mask_id=text.mask_id or 0, vocab=text.vocab_size, chosen=0.5)
    losses = []
    for row in range(len(REPORTS)):
        length = int(batch.mask[row].sum())
        alone = mb.TextBatch(
            shown.ids[row : row + 1, :length], batch.mask[row : row + 1, :length], batch.sentences[:1, :length]
        )
        logits = objective.transform(text.both_ways(alone))[0] @ text.word_table().T + objective.bias
        losses += [-logits[i].log_softmax(-1)[batch.ids[row, i]].item() for i in range(length) if guessed[row, i]]
    assert count.item() == len(losses) > 5
    assert mean.item() == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)


def test_a_causal_encoder_reads_both_ways_here_and_in_alignment_as_ever() -> None:
    text = encoder(causal=True)
    batch = text.tokenize(["sinus rhythm normal axis"])
    other = mb.TextBatch(batch.ids.clone(), batch.mask, batch.sentences)
    other.ids[0, 3] = text.tokenizer.token_to_id("old")
    with torch.no_grad():
        moved = (text.both_ways(batch) - text.both_ways(other)).abs().amax(dim=-1)[0]
        causal = (text(batch).tokens - text(other).tokens).abs().amax(dim=-1)[0]  # type: ignore[operator]
    assert (moved > 1e-4).all()
    assert (causal[:3] == 0).all()
    plain = encoder(causal=False)
    plain.load_state_dict(text.state_dict())
    with torch.no_grad():
        want = plain.bert(input_ids=batch.ids, attention_mask=batch.mask.long()).last_hidden_state
    torch.testing.assert_close(text.both_ways(batch).detach(), want)


def test_gradient_reaches_the_table_of_words_and_every_layer() -> None:
    text = encoder(causal=True)
    sizes = mb.Sizes(shared=4, embedding=4, ecg_tokens=4, text_tokens=8, vocab=text.vocab_size)
    objective = masked_words(sizes, chosen=1.0)
    objective(text.tokenize(REPORTS), text)[0].backward()
    assert [n for m in (objective, text) for n, p in m.named_parameters() if p.grad is None or not p.grad.any()] == []


class Deaf(nn.Module):
    """A model whose text encoder cannot guess."""

    encoder, text_encoder = None, nn.Identity()


def test_a_text_encoder_that_cannot_guess_is_named() -> None:
    with pytest.raises(mb.UserError, match="'Identity' cannot"):
        masked_words(SIZES).attach(Deaf())  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"chosen": 0.0}, {"masked": 0.9, "swapped": 0.2}, {"swapped": -0.1}])
def test_shares_out_of_their_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(mb.UserError, match="wanted chosen in"):
        masked_words(SIZES, **options)
    assert isinstance(masked_words(SIZES), MaskedWords)
