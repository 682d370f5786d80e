"""Vocabularies: learned from reports, extended by words that are broken, and what a new word begins as."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

import melp_bench as mb
from melp_plugins.text.hugging_face import HuggingFaceText, hugging_face
from melp_plugins.text.vocabulary import SPECIAL, broken_words, extend, learn_bert_vocabulary, published_head

RHYTHMS = ("sinus rhythm", "sinus tachycardia", "atrial fibrillation")
AXES = ("normal axis", "left axis deviation", "right axis deviation")
TEXTS = [f"{RHYTHMS[i % 3]}. {AXES[i % 3]}. rate {40 + i} bpm." for i in range(120)]
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}


def test_an_added_word_begins_as_the_mean_of_its_pieces_and_is_one_token() -> None:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=learn_bert_vocabulary(["a b c ab ba abc"] * 9, size=14), **SPECIAL)
    sentence = "cab cab cab cab cab cabby ab"
    found = broken_words(wrapped.backend_tokenizer, [sentence], limit=9)
    assert found == ["cab"]  # "cabby" is too rare, "ab" is known
    model = BertForMaskedLM(BertConfig(vocab_size=len(wrapped), **SIZES))
    before = model.get_input_embeddings().weight.detach().clone()
    pieces = wrapped.encode("cab", add_special_tokens=False)
    extend(model, wrapped, found)
    new = wrapped.convert_tokens_to_ids("cab")
    assert new == len(before)
    assert wrapped.encode("Cab", add_special_tokens=False) == [new]
    assert wrapped.encode("cabc", add_special_tokens=False) != [new]
    torch.testing.assert_close(model.get_input_embeddings().weight[new].detach(), before[pieces].mean(0))
    torch.testing.assert_close(model.get_input_embeddings().weight[:new].detach(), before)


def test_a_word_without_pieces_begins_as_the_mean_of_all() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))  # without a token for the unknown: it is dropped
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    found = broken_words(tokenizer, ["a xyz b"] * 9, limit=9)
    assert found == ["xyz"]
    model = BertForMaskedLM(BertConfig(vocab_size=2, pad_token_id=0, **SIZES))
    extend(model, wrapped, found)
    table = model.get_input_embeddings().weight.detach()
    torch.testing.assert_close(table[2], table[:2].mean(0))


def byte_pairs() -> PreTrainedTokenizerFast:
    """Return byte pairs as RoBERTa has them, in which a space belongs to the word after it."""
    tokenizer, byte_level = Tokenizer(models.BPE()), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = byte_level
    names = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=list(names.values()), initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([" normal sinus rhythm"] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def roberta(tokenizer: PreTrainedTokenizerFast) -> RobertaForMaskedLM:
    return RobertaForMaskedLM(RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=34, **SIZES))


def test_a_word_added_to_byte_pairs_is_found_with_its_space() -> None:
    wrapped = byte_pairs()
    model = roberta(wrapped)
    found = broken_words(wrapped.backend_tokenizer, ["normal sinus rhythm in Überleitung."] * 9, limit=9)
    assert found == ["in", "Überleitung"]
    assert wrapped.tokenize(" normal sinus") == ["Ġnormal", "Ġsinus"]
    extend(model, wrapped, found)
    shown = [token.strip() for token in wrapped.tokenize(" normal sinus Überleitung, Überleitung")]
    assert shown == ["Ġnormal", "Ġsinus", "Überleitung", ",", "Überleitung"]
    assert wrapped.tokenize("sinus rhythm") == byte_pairs().tokenize("sinus rhythm")


def save_bert(folder: Path, words: int = 40) -> PreTrainedTokenizerFast:
    """Write a masked language model with a vocabulary of `words` to `folder`, and return its tokenizer."""
    torch.manual_seed(0)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=learn_bert_vocabulary(TEXTS, size=words), **SPECIAL)
    sizes = SIZES | {"hidden_size": 32, "num_attention_heads": 2}
    model = BertForMaskedLM(BertConfig(vocab_size=len(wrapped), max_position_embeddings=40, **sizes))
    model.cls.predictions.bias.data.normal_()
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return wrapped


def opened(folder: Path, vocabulary: str, *, causal: bool = True) -> HuggingFaceText:
    source = mb.TextSource(reports=TEXTS)
    return hugging_face(source, model=str(folder), causal=causal, max_tokens=32, vocabulary=vocabulary, words=120).eval()


@pytest.mark.parametrize("vocabulary", ["keep", "extend", "train"])
def test_a_model_is_opened_in_its_own_or_another_vocabulary_and_opens_again_from_its_assets(
    tmp_path: Path, vocabulary: str
) -> None:
    size = len(save_bert(tmp_path))
    encoder = opened(tmp_path, vocabulary)
    grown = encoder.vocab_size - (encoder.vocab_size > size and vocabulary == "keep")  # [BOS] is added for causal reading
    assert (grown == size) if vocabulary == "keep" else (grown > size + 1)
    assert encoder.word_table().shape == (encoder.vocab_size, 32)
    again = hugging_face(mb.TextSource(assets=encoder.assets()), model="gone", causal=True, max_tokens=32).eval()
    again.load_state_dict(encoder.state_dict(), strict=True)
    batch = encoder.tokenize(TEXTS[:3])
    assert torch.equal(again.tokenize(TEXTS[:3]).ids, batch.ids)
    assert again.mask_id == encoder.mask_id is not None
    with torch.no_grad():
        assert torch.equal(again(batch).record, encoder(batch).record)
    if vocabulary != "train":
        body = BertForMaskedLM.from_pretrained(tmp_path).bert.encoder.layer[0].output.dense.weight
        assert torch.equal(encoder.state_dict()["body.encoder.layer.0.output.dense.weight"], body)


def test_the_head_of_a_published_model_guesses_as_it_did(tmp_path: Path) -> None:
    wrapped = save_bert(tmp_path)
    encoder, model = opened(tmp_path, "keep", causal=False), BertForMaskedLM.from_pretrained(tmp_path).eval()
    from melp_plugins.objectives.masked_words import masked_words

    sizes = mb.Sizes(shared=4, embedding=4, ecg_tokens=4, text_tokens=32, vocab=encoder.vocab_size)
    objective = masked_words(sizes)
    for name, tensor in encoder.guessing_head().items():
        objective.get_parameter(name).data.copy_(tensor)
    batch = encoder.tokenize(TEXTS[:3])
    with torch.no_grad():
        states = objective.transform(encoder.both_ways(batch))
        logits = torch.nn.functional.linear(states, encoder.word_table(), objective.bias)
        want = model(input_ids=batch.ids, attention_mask=batch.mask.long()).logits
    torch.testing.assert_close(logits[batch.mask], want[batch.mask], rtol=1e-4, atol=1e-5)
    longer = published_head(str(tmp_path), vocab=len(wrapped) + 3, same_words=True)["bias"]
    assert torch.equal(longer[:-3], model.cls.predictions.bias.detach())
    assert not longer[-3:].any()
    assert not published_head(str(tmp_path), vocab=7, same_words=False)["bias"].any()


def test_a_model_saved_without_a_head_has_none(tmp_path: Path) -> None:
    save_bert(tmp_path)
    BertForMaskedLM.from_pretrained(tmp_path).bert.save_pretrained(tmp_path)
    assert opened(tmp_path, "keep").guessing_head() == {}


def test_a_roberta_that_cannot_have_a_new_vocabulary_says_why(tmp_path: Path) -> None:
    wrapped = byte_pairs()
    wrapped.save_pretrained(tmp_path)
    roberta(wrapped).save_pretrained(tmp_path)
    with pytest.raises(mb.UserError, match="use vocabulary=extend") as caught:
        opened(tmp_path, "train", causal=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(mb.UserError, match="between 3 and 32 tokens"):
        hugging_face(mb.TextSource(), model=str(tmp_path), max_tokens=33)


def test_a_vocabulary_needs_reports_and_a_known_word_for_it(tmp_path: Path) -> None:
    save_bert(tmp_path)
    with pytest.raises(mb.UserError, match="'extend', and there are no reports"):
        hugging_face(mb.TextSource(), model=str(tmp_path), vocabulary="extend")
    with pytest.raises(mb.UserError, match="'grow'; wanted one of keep, extend, train"):
        hugging_face(mb.TextSource(), model=str(tmp_path), vocabulary="grow")
