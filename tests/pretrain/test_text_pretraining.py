"""Masked words: what is hidden, how it is counted, what a vocabulary gains, and that a stopped run ends in the same bits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

import melp_bench as mb
from melp_bench.errors import UserError
from melp_bench.pretrain.loop import Budget
from melp_bench.pretrain.masked_words import TERM, MaskedWords, ReportSource, Words, hide, perplexity
from melp_bench.pretrain.texts import split_by_text
from melp_bench.pretrain.vocabulary import SPECIAL, broken_words, extend, learn_wordpiece
from melp_bench.runs.text_training import DONE, Reports, TextPlan, pretrain_text
from melp_bench.runs.training import make_fabric
from melp_plugins.text.hugging_face import hugging_face

RHYTHMS = ("sinus rhythm", "sinus tachycardia", "atrial fibrillation")
AXES = ("normal axis", "left axis deviation", "right axis deviation")
TEXTS = [f"{RHYTHMS[i % 3]}. {AXES[i % 3]}. rate {40 + i} bpm." for i in range(120)]


class Silent:
    """A listener that shows nothing, and stops a run where it is told to."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after

    def stage(self, what: str, unit: str):  # type: ignore[no-untyped-def]
        from contextlib import contextmanager

        @contextmanager
        def shown():  # type: ignore[no-untyped-def]
            def advance(done: int, total: int, note: str) -> None:
                if done == self.stop_after:
                    raise KeyboardInterrupt

            yield advance

        return shown()

    def say(self, text: str) -> None:
        """Say nothing."""


def plan(**changes: object) -> TextPlan:
    stated: dict[str, object] = {
        "model": None,
        "vocabulary": "train",
        "words": 120,
        "layers": 1,
        "width": 64,
        "max_tokens": 24,
        "budget": Budget(steps=12, batch_size=16, seed=1, validate_every=4),
        "learning_rate": 5e-3,
    }
    return TextPlan(**{**stated, **changes})  # type: ignore[arg-type]


def reports() -> Reports:
    return Reports(TEXTS, *split_by_text(TEXTS), corpus="made")


def train(folder: Path, wanted: TextPlan | None = None, stop_after: int | None = None, **options: bool) -> dict:  # type: ignore[type-arg]
    return pretrain_text(
        wanted or plan(), reports(), folder, fabric=make_fabric("cpu", "32"), listener=Silent(stop_after), **options
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_fifteen_in_a_hundred_words_are_guessed_and_only_words() -> None:
    ids = torch.arange(400_000).reshape(1000, 400) % 90 + 10
    guessable = ids % 2 == 0
    shown, chosen = hide(Words(ids, torch.ones_like(guessable), guessable), generator(), mask_id=3, vocab=100)
    assert not (chosen & ~guessable).any()
    assert torch.equal(shown[~chosen], ids[~chosen])
    assert chosen.sum() / guessable.sum() == pytest.approx(0.15, abs=0.005)
    hidden = shown[chosen] == 3
    other = (shown[chosen] != ids[chosen]) & ~hidden
    assert hidden.float().mean() == pytest.approx(0.8 + 0.1 / 100, abs=0.01)
    assert other.float().mean() == pytest.approx(0.1 * 98 / 100, abs=0.01)


class Uniform(nn.Module):
    """Knows nothing: every word is equally likely."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        from types import SimpleNamespace

        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 200))


def test_who_knows_nothing_has_the_vocabulary_for_a_perplexity() -> None:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=learn_wordpiece(TEXTS, size=50), **SPECIAL)
    source = ReportSource(TEXTS, *split_by_text(TEXTS), tokenizer=wrapped, max_tokens=24)
    step = MaskedWords(Uniform(), mask_id=wrapped.mask_token_id, vocab=200)
    assert perplexity(step, source, batch_size=3, seed=0, device=torch.device("cpu")) == pytest.approx(200.0)
    empty = source.batch(source.train[:2], torch.device("cpu"))
    empty.guessable.zero_()
    mean, count = step(empty, generator())[TERM]
    assert (float(mean), float(count)) == (0.0, 0.0)


def test_the_loss_is_that_of_a_slow_loop() -> None:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=learn_wordpiece(TEXTS, size=90), **SPECIAL)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(wrapped), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = BertForMaskedLM(config).eval()
    source = ReportSource(TEXTS, *split_by_text(TEXTS), tokenizer=wrapped, max_tokens=24)
    batch = source.batch(source.train[:7], torch.device("cpu"))
    mean, count = MaskedWords(model, mask_id=4, vocab=len(wrapped))(batch, generator(5))[TERM]
    shown, chosen = hide(batch, generator(5), mask_id=4, vocab=len(wrapped))
    losses = []
    for row in range(7):
        length = int(batch.mask[row].sum())
        logits = model(input_ids=shown[row : row + 1, :length]).logits[0]
        losses += [-logits[i].log_softmax(-1)[batch.ids[row, i]].item() for i in range(length) if chosen[row, i]]
    assert float(count) == len(losses) > 5
    assert mean.item() == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)


def test_an_added_word_begins_as_the_mean_of_its_pieces_and_is_one_token() -> None:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=learn_wordpiece(["a b c ab ba abc"] * 9, size=14), **SPECIAL)
    sentence = "cab cab cab cab cab cabby ab"
    found = broken_words(wrapped.backend_tokenizer, [sentence], limit=9)
    assert found == ["cab"]  # "cabby" is too rare, "ab" is known
    model = BertForMaskedLM(
        BertConfig(vocab_size=len(wrapped), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    )
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
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForMaskedLM(BertConfig(vocab_size=2, pad_token_id=0, **sizes))
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
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return RobertaForMaskedLM(RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=34, **sizes))


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


def test_another_model_at_the_same_place_is_another_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    asked, reports = plan(vocabulary="keep", model=str(tmp_path)), Reports(TEXTS, *split_by_text(TEXTS), corpus="made")
    before = asked.identity(reports)
    assert asked.identity(reports) == before
    (tmp_path / "config.json").write_text("{ }")
    assert asked.identity(reports) != before


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"max_tokens": 33}, "reads at most 32 tokens"), ({"vocabulary": "train", "max_tokens": 32}, "--vocabulary extend")],
)
def test_a_roberta_that_cannot_be_trained_so_says_why(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    wrapped = byte_pairs()
    wrapped.save_pretrained(tmp_path / "model")
    roberta(wrapped).save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=said) as caught:
        train(tmp_path / "out", plan(**({"vocabulary": "keep"} | changes), model=str(tmp_path / "model")))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_training_learns_and_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    made = train(tmp_path / "bert", plan(budget=Budget(steps=40, batch_size=16, seed=1, validate_every=20)))
    assert made["perplexity"]["after"] < 0.5 * made["perplexity"]["before"]
    stamp = (tmp_path / "bert" / "model.safetensors").stat().st_mtime_ns
    assert train(tmp_path / "bert", plan(budget=Budget(steps=40, batch_size=16, seed=1, validate_every=20))) == made
    assert (tmp_path / "bert" / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match="other reports or settings"):
        train(tmp_path / "bert")


def test_a_stopped_run_ends_in_the_bits_of_an_undisturbed_one(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stop_after=7)
    assert not (tmp_path / "stopped" / DONE).exists()
    again = train(tmp_path / "stopped")
    assert again["perplexity"]["after"] == whole["perplexity"]["after"]
    assert again["history"] == whole["history"]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not (tmp_path / "stopped" / "state").exists()


@pytest.mark.parametrize("vocabulary", ["keep", "extend", "train"])
def test_a_model_goes_on_in_its_own_or_another_vocabulary_and_opens_as_a_text_encoder(tmp_path: Path, vocabulary: str) -> None:
    first = tmp_path / "first"
    train(first, plan(words=40))
    size = json.loads((first / DONE).read_text())["vocabulary"]
    made = train(tmp_path / "second", plan(model=str(first), vocabulary=vocabulary, words=120))
    grown = made["vocabulary"]
    assert (grown == size) if vocabulary == "keep" else (grown > size)
    encoder = hugging_face(mb.TextSource(), model=str(tmp_path / "second"), causal=True, max_tokens=32).eval()
    with torch.no_grad():
        features = encoder(encoder.tokenize(TEXTS[:3]))
    assert features.record.shape == (3, 64)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "second")) == grown
    want = load_file(tmp_path / "second" / "model.safetensors")["bert.encoder.layer.0.output.dense.weight"]
    assert torch.equal(encoder.state_dict()["body.encoder.layer.0.output.dense.weight"], want)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        train(tmp_path)
    with pytest.raises(UserError, match="not empty"):
        train(tmp_path, restart=True)
    assert (tmp_path / "thesis.tex").exists()
