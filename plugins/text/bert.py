"""BERT over reports, causal as MELP uses it, or plain.

Papers: BERT, Devlin et al. 2019; From Token to Rhythm (MELP), Wang et al. 2025, https://arxiv.org/abs/2506.21803.
Built from the configuration in transformers; differs by default in its size, with an initialisation and a dropout that fit
it, and in its vocabulary, which is learned from the reports at hand. Sentences end at the vocabulary's own full stop; a decimal
("0.12") is one word and holds none. Text after the last full stop is a sentence of its own, and the one sentence of a report
without a word is its [CLS].
Shapes: B reports, N tokens, S sentences, D channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.text.vocabulary import learn_wordpiece

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[BOS]", "[MASK]")
STOP = "."
WORD = r"\d+(?:[.,]\d+)+|\w+|[^\w\s]"
ASSET = "tokenizer.json"
NO_WORDS = "bert needs reports to learn its vocabulary from; give reports, or the tokenizer.json of a checkpoint"


def learn_vocabulary(reports: Iterable[str], *, size: int) -> Tokenizer:
    """Return a lower-casing WordPiece tokenizer of at most `size` entries, a pure function of the reports."""
    words = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    return learn_wordpiece(reports, size=size, special=SPECIAL, pre_tokenizer=words, always=STOP)


def read_tokenizer(text: str) -> Tokenizer:
    """Return the tokenizer of an asset.

    Raises:
        UserError: the text is no tokenizer, or lacks a name that this encoder needs.
    """
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception
        raise mb.UserError(
            f"{ASSET} of the text encoder cannot be read ({error}); take it from the checkpoint again"
        ) from error
    missing = [name for name in (*SPECIAL[:4], STOP) if tokenizer.token_to_id(name) is None]
    if missing:
        raise mb.UserError(f"{ASSET} of the text encoder lacks {missing}; wanted a vocabulary with them")
    return tokenizer


def sentence_of(stop: np.ndarray, word: np.ndarray) -> np.ndarray:
    """Return the sentence that each token belongs to, (B, N), -1 where `word` is False.

    A sentence runs up to and including its full stops (`stop`); it has a word other than a full stop, so that neither "..."
    nor a leading full stop makes a sentence of its own. What is no word, such as a space, parts nothing.
    """
    said = word & ~stop
    stops = np.cumsum(stop, axis=1)
    at_said = np.maximum.accumulate(np.where(said, stops, 0), axis=1)  # the full stops up to the latest word
    begun = np.pad(np.cumsum(said, axis=1) > 0, ((0, 0), (1, 0)))[:, :-1]
    starts = said & begun & (stops > np.pad(at_said, ((0, 0), (1, 0)))[:, :-1])
    return np.where(word, np.cumsum(starts, axis=1), -1)


class Bert(mb.TextEncoder):
    """BERT whose report state is its [CLS]: last in the causal mode, where it sees all that went before, else first."""

    pad_id = 0

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        layers: int,
        width: int,
        heads: int,
        mlp_ratio: int,
        max_tokens: int,
        causal: bool,
        dropout: float,
    ) -> None:
        from transformers import BertConfig, BertModel  # seconds to import, so not before a model is built

        super().__init__()
        self.width, self.causal, self.max_tokens, self.tokenizer = width, causal, max_tokens, tokenizer
        self.vocab_size = tokenizer.get_vocab_size()
        vocabulary = tokenizer.get_vocab()
        self.pad_id, self._cls, self._bos, self._stop = (vocabulary[n] for n in ("[PAD]", "[CLS]", "[BOS]", STOP))
        config = BertConfig(
            vocab_size=self.vocab_size,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=mlp_ratio * width,
            initializer_range=width**-0.5,  # BERT's 0.02 is for 768; at 128 it makes all reports start nearly alike
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            max_position_embeddings=max_tokens,
            pad_token_id=self.pad_id,
            is_decoder=causal,
            use_cache=False,
        )
        self.bert = BertModel(config, add_pooling_layer=False)

    def tokenize(self, reports: Sequence[str]) -> mb.TextBatch:
        """Return ids, mask and sentences; a report longer than `max_tokens` loses its last words and keeps its [CLS]."""
        words = self.max_tokens - 2 if self.causal else self.max_tokens - 1
        encoded = self.tokenizer.encode_batch(list(reports), add_special_tokens=False)
        rows = [e.ids[:words] for e in encoded]
        rows = [[self._bos, *row, self._cls] if self.causal else [self._cls, *row] for row in rows]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        mask = np.arange(lengths.max(initial=1)) < lengths[:, None]  # (B, N)
        ids = np.full(mask.shape, self.pad_id, dtype=np.int64)
        ids[mask] = np.concatenate([np.asarray(row) for row in rows]) if rows else []
        word = mask.copy()
        word[:, 0] = False
        if self.causal:
            word[np.arange(len(rows)), lengths - 1] = False
        sentences = sentence_of((ids == self._stop) & word, word)
        return mb.TextBatch(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(sentences))

    def forward(self, batch: mb.TextBatch) -> mb.Features:
        """Return the features of reports; a sentence is the mean of its words' states."""
        states: Tensor = self.bert(input_ids=batch.ids, attention_mask=batch.mask.long()).last_hidden_state  # (B, N, D)
        last = batch.mask.sum(dim=1) - 1 if self.causal else torch.zeros_like(batch.ids[:, 0])
        cls = states[torch.arange(len(states), device=states.device), last]  # (B, D)
        return report_features(cls, states, batch)

    @property
    def mask_id(self) -> int | None:
        """The id that hides a word; None where the vocabulary of a checkpoint has none."""
        found: int | None = self.tokenizer.token_to_id("[MASK]")
        return found

    def both_ways(self, batch: mb.TextBatch) -> Tensor:
        """Return the states of the tokens (B, N, D), each of which sees all others."""
        states: Tensor = self.bert(input_ids=batch.ids, attention_mask=every_way(batch.mask)).last_hidden_state
        return states

    def word_table(self) -> Tensor:
        """Return the embeddings (V, D) of the vocabulary."""
        table: Tensor = self.bert.embeddings.word_embeddings.weight
        return table

    def guessing_head(self) -> Mapping[str, Tensor]:
        """Return nothing: it has no published weights."""
        return {}

    def assets(self) -> dict[str, str]:
        """Return the vocabulary."""
        return {ASSET: self.tokenizer.to_str()}


def every_way(mask: Tensor) -> Tensor:
    """Return what is added to the scores of attention, (B, 1, N, N), so that each token sees all real ones of `mask` (B, N).

    Given a mask of four dimensions, a model of transformers makes none of its own, causal or not.
    """
    hidden = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.float32).min)
    return hidden[:, None, None, :].expand(-1, 1, mask.shape[1], -1)


def report_features(report: Tensor, states: Tensor, batch: mb.TextBatch) -> mb.Features:
    """Return the features of reports (B, D) and their tokens' `states` (B, N, D).

    A sentence is the mean of its words' states; the one sentence of a report without a word is the report's own state.
    """
    sentences, mask = sentence_means(states, batch.sentences)
    wordless = ~mask[:, :1]  # (B, 1)
    first = torch.where(wordless, report, sentences[:, 0]).unsqueeze(1)
    return mb.Features(
        record=report,
        embedding=report,
        segments=torch.cat([first, sentences[:, 1:]], dim=1),
        segments_mask=torch.cat([mask[:, :1] | wordless, mask[:, 1:]], dim=1),
        tokens=states,
        tokens_mask=batch.mask,
        token_ids=batch.ids,
    )


def sentence_means(states: Tensor, sentences: Tensor) -> tuple[Tensor, Tensor]:
    """Return each sentence's mean state (B, S, D) and which sentences exist (B, S), at least one column wide.

    `sentences` (B, N) holds the sentence of each of the `states` (B, N, D), -1 for none.
    """
    count = max(int(sentences.max()) + 1, 1) if sentences.numel() else 1
    member = F.one_hot(sentences + 1, count + 1)[..., 1:].to(states.dtype)  # (B, N, S)
    words = member.sum(dim=1)  # (B, S)
    return member.transpose(1, 2) @ states / words.clamp_min(1.0).unsqueeze(-1), words > 0


def bert(
    source: mb.TextSource,
    *,
    layers: int = 1,
    width: int = 128,
    heads: int = 4,
    mlp_ratio: int = 2,
    max_tokens: int = 128,
    vocab_size: int = 2000,
    causal: bool = True,
    dropout: float = 0.0,
) -> Bert:
    """Return a BERT with the vocabulary of the source's assets, or one learned from its reports.

    Raises:
        UserError: the source has neither reports nor assets, or sizes that do not fit.
    """
    if heads < 1 or width % heads or max_tokens < 3 or min(layers, mlp_ratio) < 1:
        raise mb.UserError(
            f"width {width}, heads {heads}, layers {layers}, max_tokens {max_tokens}: wanted a width that heads divide, "
            "at least one layer and at least 3 tokens"
        )
    if ASSET in source.assets:
        tokenizer = read_tokenizer(source.assets[ASSET])
    elif any(report.strip() for report in source.reports):
        tokenizer = learn_vocabulary(source.reports, size=vocab_size)
    else:
        raise mb.UserError(NO_WORDS)
    return Bert(
        tokenizer,
        layers=layers,
        width=width,
        heads=heads,
        mlp_ratio=mlp_ratio,
        max_tokens=max_tokens,
        causal=causal,
        dropout=dropout,
    )


@mb.hookimpl
def melp_text_encoders() -> list[mb.Entry[mb.TextEncoder]]:
    """Offer BERT."""
    return [
        mb.Entry(
            name="bert",
            build=bert,
            summary="BERT, causal with [CLS] last (MELP) or plain, with a vocabulary learned from the reports",
            source="https://arxiv.org/abs/2506.21803",
            license="MIT",
        )
    ]
