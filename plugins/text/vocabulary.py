"""A vocabulary for reports: learned from them, or extended by the words that it breaks into pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

import melp_bench as mb
from melp_bench.published.hub import first_position, loading

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
"""BERT's, by the names that transformers has for them."""
VOCABULARIES = ("keep", "extend", "train")
HEAD_LAYERS = (
    ("cls.predictions.transform.dense", "transform.0"),
    ("cls.predictions.transform.LayerNorm", "transform.2"),
    ("lm_head.dense", "transform.0"),
    ("lm_head.layer_norm", "transform.2"),
    ("vocab_transform", "transform.0"),
    ("vocab_layer_norm", "transform.2"),
)
"""How BERT, RoBERTa and DistilBERT call the two layers between states and words."""
HEAD_BIASES = ("cls.predictions.bias", "lm_head.bias", "vocab_projector.bias")
SEEN_AT_LEAST = 5
"""A word that is rarer is not added."""


def learn_wordpiece(
    reports: Iterable[str], *, size: int, special: Sequence[str], pre_tokenizer: pre_tokenizers.PreTokenizer, always: str = ""
) -> Tokenizer:
    """Return an uncased WordPiece tokenizer of `size` words (letters are always in it), a pure function of the reports.

    The `special` tokens are its first ids, and the letters of `always` are known even if no report has them. The trainer
    numbers single letters in the order of a hash map; naming them all beforehand makes it deterministic.
    """
    learner = _untrained({}, pre_tokenizer)
    reports = [learner.normalizer.normalize_str(report) for report in reports]
    letters = sorted({letter for report in reports for letter in report if not letter.isspace()} | set(always))
    named = [*special, *letters, *(f"##{letter}" for letter in letters)]
    trainer = trainers.WordPieceTrainer(vocab_size=max(size, len(named)), special_tokens=named, show_progress=False)
    learner.train_from_iterator(reports, trainer)
    return _untrained(learner.get_vocab(), pre_tokenizer)  # in which letters are no special tokens


def _untrained(known: dict[str, int], pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizer
    return tokenizer


def learn_bert_vocabulary(reports: Iterable[str], *, size: int) -> Tokenizer:
    """Return a tokenizer as a BERT of transformers has it, `[CLS] words [SEP]`, its vocabulary learned from the reports."""
    special = list(SPECIAL.values())
    tokenizer = learn_wordpiece(reports, size=size, special=special, pre_tokenizer=pre_tokenizers.BertPreTokenizer())
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.WordPiece()
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def broken_words(tokenizer: Tokenizer, reports: Sequence[str], *, limit: int) -> list[str]:
    """Return at most `limit` words that the tokenizer breaks into pieces or does not know, most frequent first."""
    counts: Counter[str] = Counter()
    for report in reports:
        text = tokenizer.normalizer.normalize_str(report) if tokenizer.normalizer else report
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text) if tokenizer.pre_tokenizer else []
        words = (text[begin:end].strip() for _, (begin, end) in pieces)  # as written: byte pairs spell a space "Ġ"
        counts.update(word for word in words if word.isalpha())
    unknown = [tokenizer.token_to_id(name) for name in ("[UNK]", "<unk>")]
    found: list[str] = []
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(found) == limit or count < SEEN_AT_LEAST:
            break
        ids = tokenizer.encode(f" {word}", add_special_tokens=False).ids  # most words follow a space
        if len(ids) != 1 or ids[0] in unknown:  # none at all: byte pairs without a token for the unknown
            found.append(word)
    return found


def extend(model: Any, tokenizer: Any, words: Sequence[str]) -> None:
    """Add words to a tokenizer and a model of transformers; a new word begins as the mean of its pieces.

    One without pieces begins as the mean of all. Where a space is part of the words' tokens, it is of the new words', too.
    """
    pieces = {word: tokenizer.encode(f" {word}", add_special_tokens=False) for word in words}
    spaced = bool(tokenizer.encode(" ", add_special_tokens=False))
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True, lstrip=spaced) for word in words])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = model.get_input_embeddings().weight
    known = len(tokenizer) - len(words)
    with torch.no_grad():
        for word, ids in pieces.items():
            table[tokenizer.convert_tokens_to_ids(word)] = table[ids or range(known)].mean(dim=0)


def change_vocabulary(body: Any, tokenizer: Any, *, how: str, reports: Sequence[str], words: int, model: str) -> Any:
    """Return the tokenizer of a transformers model with its vocabulary as `how` says; the model's table is changed with it.

    Raises:
        UserError: there are no reports to learn from, or the model cannot do with another vocabulary.
    """
    if how == "keep":
        return tokenizer
    if not any(report.strip() for report in reports):
        raise mb.UserError(f"option 'vocabulary' of {model!r} is {how!r}, and there are no reports to learn from")
    if how == "extend":
        extend(body, tokenizer, broken_words(tokenizer.backend_tokenizer, reports, limit=words))
        return tokenizer
    if first_position(body):
        raise mb.UserError(
            f"{model!r} counts positions from its padding's id, which a new vocabulary changes; use vocabulary=extend"
        )
    from transformers import PreTrainedTokenizerFast

    learned = learn_bert_vocabulary(reports, size=words)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=learned, **SPECIAL)  # type: ignore[no-untyped-call]
    body.resize_token_embeddings(len(wrapped), mean_resizing=False)
    body.get_input_embeddings().weight.data.normal_(std=0.02)  # ids mean other words now
    body.config.pad_token_id = wrapped.pad_token_id
    return wrapped


def published_head(model: str, *, vocab: int, same_words: bool) -> dict[str, Tensor]:
    """Return the head by which a transformers model guesses words, as `GuessesWords` names it; nothing where it has none.

    Words that were added have no bias, and none has where the ids do not mean the `same_words`.
    """
    from transformers import AutoConfig, AutoModelForMaskedLM

    with loading(model) as where:
        architectures = AutoConfig.from_pretrained(where, trust_remote_code=False).architectures or []
        if not any(name.endswith("ForMaskedLM") for name in architectures):
            return {}
        state = AutoModelForMaskedLM.from_pretrained(where, trust_remote_code=False).state_dict()
    head = {
        f"{ours}.{kind}": state[f"{theirs}.{kind}"]
        for theirs, ours in HEAD_LAYERS
        for kind in ("weight", "bias")
        if f"{theirs}.{kind}" in state
    }
    bias = torch.zeros(vocab)
    known = next((state[name] for name in HEAD_BIASES if name in state), bias[:0])
    if same_words:
        bias[: len(known)] = known
    return {**head, "bias": bias}
