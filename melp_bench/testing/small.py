"""A model small enough to be asked anything: an encoder that masks, a text encoder that guesses words, heads that write.

Shapes: B records or reports, L leads, T samples, N tokens, V words, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melp_bench.components import ECGEncoder, Heads, Sizes, TextBatch, TextEncoder
from melp_bench.features import Features
from melp_bench.signal import SignalSpec

SIZES = Sizes(shared=16, embedding=24, ecg_tokens=20, text_tokens=12, vocab=24, pad_id=0, classes=5, causal_text=True)
"""Widths all different, so that an objective which mixes them up fails to build or to run."""


class SmallEncoder(ECGEncoder):
    """Patches of 50 ms through two linear layers and a mean; it offers masked encoding."""

    token_rows, separators = 1, 0

    def __init__(self) -> None:
        super().__init__()
        self.spec = SignalSpec(rate_hz=100.0, seconds=2.0)
        self.width = self.context_width = SIZES.ecg_tokens
        self.patch = 5
        self.local_width = len(self.spec.leads) * self.patch
        self.layers = nn.Sequential(nn.Linear(self.local_width, 32), nn.GELU(), nn.Linear(32, self.width))
        self.widen = nn.Linear(self.width, SIZES.embedding)

    @property
    def embedding_width(self) -> int:
        """Channels that probes read."""
        return SIZES.embedding

    def local(self, signal: Tensor) -> Tensor:
        """Return the patches (B, N, L * patch) of `signal` (B, L, T)."""
        return signal.unfold(-1, self.patch, self.patch).transpose(1, 2).flatten(2)

    def normed(self, local: Tensor) -> Tensor:
        """Return the patches as they are."""
        return local

    def contextual(self, normed: Tensor, masked: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        """Return each token (B, N, D) and the mean of those that are there; see `MaskedEncoding`."""
        x: Tensor = self.layers(normed)  # (B, N, D)
        if masked is None:
            return x + x.mean(dim=1, keepdim=True)
        x = torch.where(masked[..., None], 0.0 if stand_in is None else stand_in, x)
        if stand_in is not None:
            return x + x.mean(dim=1, keepdim=True)
        seen = x + x.sum(dim=1, keepdim=True) / (~masked).sum(dim=1)[:, None, None]
        return seen.masked_fill(masked[..., None], 0.0)

    def forward(self, signal: Tensor) -> Features:
        """Return features of `signal` (B, 12, T)."""
        tokens = self.contextual(self.local(signal))
        mean = tokens.mean(dim=1)  # (B, D)
        mask = tokens.new_ones(tokens.shape[:2]).bool()
        return Features(record=mean, embedding=self.widen(mean), tokens=tokens, tokens_mask=mask)


class SmallText(TextEncoder):
    """A table of words, each seen beside the mean of its report; it can guess hidden words."""

    width, vocab_size, pad_id, causal, mask_id = SIZES.text_tokens, SIZES.vocab, SIZES.pad_id, False, 1

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(self.vocab_size, self.width)

    def tokenize(self, reports: Sequence[str]) -> TextBatch:
        """Return a word of each letter, all in one sentence."""
        longest = max((len(report) for report in reports), default=0) + 1
        rows = [[2 + ord(letter) % (self.vocab_size - 2) for letter in report] for report in reports]
        ids = torch.tensor([[2, *row] + [self.pad_id] * (longest - 1 - len(row)) for row in rows])
        return TextBatch(ids, ids != self.pad_id, torch.where(ids != self.pad_id, 0, -1))

    def both_ways(self, batch: TextBatch) -> Tensor:
        """Return states (B, N, D)."""
        words: Tensor = self.table(batch.ids)
        return words + self._mean(words, batch.mask).unsqueeze(1)

    def _mean(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return the mean (B, D) of the `values` (B, N, D) that are there."""
        real = mask.to(values.dtype).unsqueeze(-1)
        return (values * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)

    def word_table(self) -> Tensor:
        """Return the table of words (V, D)."""
        return self.table.weight

    def guessing_head(self) -> Mapping[str, Tensor]:
        """Return nothing: it was never published."""
        return {}

    def forward(self, batch: TextBatch) -> Features:
        """Return features: a report is its words' mean, and its only sentence."""
        states = self.both_ways(batch)
        mean = self._mean(states, batch.mask)  # (B, D)
        return Features(mean, mean, mean.unsqueeze(1), batch.mask[:, :1], states, batch.mask, batch.ids)


class SmallWriter(Heads):
    """Heads that leave features as they are, and write: the next word is told by the last one and the mean of the record."""

    width = SIZES.shared

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(SIZES.ecg_tokens, SIZES.text_tokens)
        self.widen = nn.Linear(SIZES.text_tokens, SIZES.text_tokens)

    def ecg(self, features: Features) -> Features:
        """Return the features as they are."""
        return features

    def text(self, features: Features) -> Features:
        """Return the features as they are."""
        return features

    def next_words(self, ecg: Features, text: Features) -> Tensor:
        """Return states (B, N, D); see `WritesReports`."""
        if ecg.tokens is None or text.tokens is None:
            raise ValueError("the small model offers tokens of both, and they are not here")
        real = ecg.tokens.new_ones(ecg.tokens.shape[:2]) if ecg.tokens_mask is None else ecg.tokens_mask.to(ecg.tokens.dtype)
        mean = (ecg.tokens * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True).clamp_min(1)  # (B, C)
        states: Tensor = self.widen(text.tokens) + self.read(mean)[:, None]
        return states


class SmallModel(nn.Module):
    """What objectives are attached to: the small encoder, a small text encoder, and heads that its features pass by."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: ECGEncoder = SmallEncoder()
        self.text_encoder: TextEncoder | None = SmallText()
        self.heads: Heads | None = SmallWriter()

    def ecg(self, signal: Tensor) -> Features:
        """Return the encoder's features of `signal` (B, 12, T)."""
        features: Features = self.encoder(signal)
        return features

    def text(self, batch: TextBatch) -> Features:
        """Return the text encoder's features of reports, the record as wide as the shared space: widened with zeros."""
        features: Features = self.get_submodule("text_encoder")(batch)
        return features.apply({"record": F.pad(features.record, (0, SIZES.shared - features.record.shape[1]))})
