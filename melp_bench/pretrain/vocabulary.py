"""A BERT's vocabulary for reports: learned from them, or extended by the words that it breaks into pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
SEEN_AT_LEAST = 5


def learn_wordpiece(reports: Sequence[str], *, size: int) -> Tokenizer:
    """Return an uncased WordPiece tokenizer of `size` words (letters are always in it), a pure function of the reports.

    BERT's special tokens are its first ids. The trainer numbers single letters in the order of a hash map; naming them all
    beforehand makes it deterministic.
    """
    normalizer, special = normalizers.BertNormalizer(lowercase=True), list(SPECIAL.values())
    letters = sorted({letter for report in reports for letter in normalizer.normalize_str(report) if not letter.isspace()})
    named = [*special, *letters, *(f"##{letter}" for letter in letters)]
    learner = _untrained({}, normalizer)
    trainer = trainers.WordPieceTrainer(vocab_size=max(size, len(named)), special_tokens=named, show_progress=False)
    learner.train_from_iterator(map(normalizer.normalize_str, reports), trainer)
    tokenizer = _untrained(learner.get_vocab(), normalizer)  # in which letters are no special tokens
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.WordPiece()
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def _untrained(known: dict[str, int], normalizer: normalizers.Normalizer) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
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
    """Add words to a tokenizer and a masked language model of transformers; a new word begins as the mean of its pieces.

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
