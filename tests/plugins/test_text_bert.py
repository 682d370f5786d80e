"""The text encoder: sentences, special cases, causality, vocabulary."""

from __future__ import annotations

import pytest
import torch

import melp_bench as mb
from melp_plugins.text.bert import Bert, bert, learn_vocabulary, sentence_means

REPORTS = [
    "Sinus rhythm. PR interval 0.12 s. Normal axis.",
    "Atrial fibrillation with a rate of 112 per minute",
    "Left bundle branch block. QRS duration 152 ms",
]


def built(**options: object) -> Bert:
    torch.manual_seed(0)
    encoder = bert(mb.TextSource(reports=REPORTS), layers=2, width=32, heads=2, **options)  # type: ignore[arg-type]
    return encoder.eval()


@pytest.fixture(scope="module", params=[True, False], ids=["causal", "plain"])
def encoder(request: pytest.FixtureRequest) -> Bert:
    return built(causal=request.param, max_tokens=32)


def test_sentences_end_at_full_stops_and_a_decimal_holds_none(encoder: Bert) -> None:
    batch = encoder.tokenize([REPORTS[0]])
    words = [encoder.tokenizer.id_to_token(i) for i in batch.ids[0].tolist()]
    sentence = batch.sentences[0].tolist()
    assert max(sentence) == 2
    assert [s for w, s in zip(words, sentence, strict=True) if w == "."] == [0, 1, 2]
    assert all(s == -1 for w, s in zip(words, sentence, strict=True) if w in ("[CLS]", "[BOS]", "[PAD]"))


def test_text_after_the_last_full_stop_is_a_sentence(encoder: Bert) -> None:
    assert encoder.tokenize([REPORTS[2]]).sentences.max() == 1


@pytest.mark.parametrize(
    ("report", "count"), [("axis", 1), ("", 1), ("...", 1), (". axis", 1), ("axis... normal.", 2), ("a.b", 2)]
)
def test_every_report_has_a_sentence(encoder: Bert, report: str, count: int) -> None:
    features = encoder(encoder.tokenize([report, REPORTS[0]]))
    assert features.segments_mask is not None
    assert features.segments_mask[0].sum() == count
    assert all(torch.isfinite(tensor).all() for tensor in features.present().values())


def test_the_sentence_of_an_empty_report_is_its_cls(encoder: Bert) -> None:
    features = encoder(encoder.tokenize([""]))
    assert features.segments is not None
    torch.testing.assert_close(features.segments[:, 0], features.record)


def test_a_thousand_words_are_cut_and_keep_their_cls(encoder: Bert) -> None:
    batch = encoder.tokenize(["normal axis. " * 500])
    cls = encoder.tokenizer.token_to_id("[CLS]")
    assert batch.ids.shape == (1, 32)
    assert batch.ids[0, -1 if encoder.causal else 0] == cls
    assert (batch.ids == cls).sum() == 1
    assert torch.isfinite(encoder(batch).record).all()


def test_a_report_does_not_depend_on_its_neighbours(encoder: Bert) -> None:
    alone = encoder(encoder.tokenize([REPORTS[2]]))
    among = encoder(encoder.tokenize([*REPORTS, "normal axis. " * 500]))
    assert alone.segments is not None
    assert among.segments is not None
    torch.testing.assert_close(among.record[2:3], alone.record, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(among.segments[2:3, :2], alone.segments, rtol=1e-4, atol=1e-5)
    assert among.segments_mask is not None
    assert among.segments_mask[2].sum() == 2


def test_a_causal_word_ignores_the_words_after_it_and_a_plain_one_does_not() -> None:
    for causal in (True, False):
        encoder = built(causal=causal)
        batch = encoder.tokenize([REPORTS[0]])
        changed = mb.TextBatch(batch.ids.clone(), batch.mask, batch.sentences)
        changed.ids[0, 6] = encoder.tokenizer.token_to_id("[MASK]")
        one, two = encoder(batch).tokens, encoder(changed).tokens
        assert one is not None
        assert two is not None
        assert torch.allclose(one[:, :6], two[:, :6], atol=1e-6) is causal
        assert not torch.allclose(one[:, 6:], two[:, 6:], atol=1e-4)


def test_the_last_cls_sees_every_word() -> None:
    encoder = built()
    batch = encoder.tokenize([REPORTS[0]])
    for position in range(1, batch.ids.shape[1] - 1):
        changed = batch.ids.clone()
        changed[0, position] = encoder.tokenizer.token_to_id("[MASK]")
        other = encoder(mb.TextBatch(changed, batch.mask, batch.sentences))
        assert not torch.allclose(other.record, encoder(batch).record, atol=1e-5), position


def test_sentence_means_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(3, 7, 4, generator=generator)
    sentences = torch.tensor([[-1, 0, 0, 1, 2, 2, -1], [-1, 0, 0, 0, 0, -1, -1], [-1, -1, -1, -1, -1, -1, -1]])
    means, mask = sentence_means(states, sentences)
    assert mask.tolist() == [[True] * 3, [True, False, False], [False] * 3]
    for b in range(3):
        for s in range(3):
            chosen = states[b][sentences[b] == s]
            wanted = chosen.mean(dim=0) if len(chosen) else torch.zeros(4)
            torch.testing.assert_close(means[b, s], wanted)


def test_the_vocabulary_comes_back_from_its_assets(encoder: Bert) -> None:
    again = bert(
        mb.TextSource(assets=encoder.assets()), layers=2, width=32, heads=2, max_tokens=32, causal=encoder.causal
    ).eval()
    again.load_state_dict(encoder.state_dict(), strict=True)
    assert torch.equal(again.tokenize(REPORTS).ids, encoder.tokenize(REPORTS).ids)
    assert torch.equal(again(again.tokenize(REPORTS)).record, encoder(encoder.tokenize(REPORTS)).record)


def test_the_vocabulary_is_a_pure_function_of_the_reports() -> None:
    reports = [f"rate {i * 37 % 211} ms, sinus {chr(97 + i % 26)}{chr(97 + i * 7 % 26)}xq. 0.{i} s" for i in range(300)]
    learnt = {learn_vocabulary(reports, size=250).to_str() for _ in range(8)}  # the library's maps are seeded anew each time
    assert len(learnt) == 1


@pytest.mark.parametrize("source", [mb.TextSource(), mb.TextSource(reports=[" ", ""])])
def test_no_reports_and_no_assets_is_the_users_mistake(source: mb.TextSource) -> None:
    with pytest.raises(mb.UserError, match="needs reports"):
        bert(source)


@pytest.mark.parametrize("text", ["", "{}", "not json"])
def test_a_broken_asset_is_the_users_mistake(text: str) -> None:
    with pytest.raises(mb.UserError, match=r"tokenizer\.json"):
        bert(mb.TextSource(assets={"tokenizer.json": text}))
