"""Masked-language-model training of a BERT on reports: MELP's first stage for text.

Papers: BERT, Devlin et al. 2019 (arXiv 1810.04805); From Token to Rhythm (MELP), Wang et al. 2025 (arXiv 2506.21803).
Shapes: B reports, N tokens, V words of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from melp_bench.errors import UserError
from melp_bench.pretrain.step import Gather

CHOSEN, MASKED, SWAPPED = 0.15, 0.8, 0.1
"""Of the words, those guessed; of these, those replaced by [MASK], and those by a word at random. The rest stay."""
TERM = "words"


class Words:
    """Tokenised reports; no dataclass, for the reason that `Batch` gives.

    Attributes:
        ids: (B, N).
        mask: (B, N), True where a token is real.
        guessable: (B, N), True where a token is a word.
    """

    def __init__(self, ids: Tensor, mask: Tensor, guessable: Tensor) -> None:
        self.ids, self.mask, self.guessable = ids, mask, guessable


class ReportSource:
    """Reports as a loop reads them: tokenised once, `train` to learn from and `validation` held out.

    Raises:
        UserError: a part is empty.
    """

    def __init__(
        self,
        reports: Sequence[str],
        train: NDArray[np.int64],
        validation: NDArray[np.int64],
        *,
        tokenizer: Any,
        max_tokens: int,
    ) -> None:
        if not len(train) or not len(validation):
            raise UserError(f"{len(train)} reports to train on and {len(validation)} held out; wanted some of both")
        self.train, self.validation, self.pad = train, validation, int(tokenizer.pad_token_id)
        self.bounds = np.array([0, len(train)])  # reports are in memory: one part
        special = sorted(set(tokenizer.all_special_ids))
        encoded = tokenizer(list(reports), truncation=True, max_length=max_tokens)["input_ids"]
        self._ids = [np.asarray(ids, dtype=np.int64) for ids in encoded]
        self._words = [~np.isin(ids, special) for ids in self._ids]

    def batch(self, positions: NDArray[np.int64], device: torch.device) -> Words:
        """Return the reports at `positions`, padded to the longest of them."""
        longest = max(len(self._ids[i]) for i in positions)
        ids = np.full((len(positions), longest), self.pad, dtype=np.int64)
        mask, words = np.zeros(ids.shape, dtype=bool), np.zeros(ids.shape, dtype=bool)
        for row, position in enumerate(positions):
            length = len(self._ids[position])
            ids[row, :length], words[row, :length] = self._ids[position], self._words[position]
            mask[row, :length] = True
        return Words(*(torch.from_numpy(array).to(device) for array in (ids, mask, words)))


class MaskedWords(nn.Module):
    """One step: `model` (a masked language model of transformers) guesses the words that were hidden from it."""

    def __init__(self, model: nn.Module, *, mask_id: int, vocab: int) -> None:
        super().__init__()
        self.model, self.mask_id, self.vocab = model, mask_id, vocab

    def forward(
        self, batch: Words, generator: torch.Generator, gather: Gather | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the mean cross entropy of the hidden words, and how many there are."""
        shown, chosen = hide(batch, generator, mask_id=self.mask_id, vocab=self.vocab)
        logits = self.model(input_ids=shown, attention_mask=batch.mask.long()).logits  # (B, N, V)
        count = chosen.sum()
        total = F.cross_entropy(logits[chosen].float(), batch.ids[chosen], reduction="sum")
        return {TERM: (total / count.clamp_min(1), count.float())}


def hide(batch: Words, generator: torch.Generator, *, mask_id: int, vocab: int) -> tuple[Tensor, Tensor]:
    """Return the ids (B, N) with words hidden, and which of them are to be guessed (B, N)."""
    device = batch.ids.device
    drawn = torch.rand(batch.ids.shape, generator=generator, device=device)
    chosen = batch.guessable & (drawn < CHOSEN)
    fate = torch.rand(batch.ids.shape, generator=generator, device=device)
    random = torch.randint(vocab, batch.ids.shape, generator=generator, device=device)
    shown = torch.where(chosen & (fate < MASKED), mask_id, batch.ids)
    return torch.where(chosen & (fate >= MASKED) & (fate < MASKED + SWAPPED), random, shown), chosen


@torch.no_grad()
def perplexity(module: MaskedWords, source: ReportSource, *, batch_size: int, seed: int, device: torch.device) -> float:
    """Return exp of the mean cross entropy over the hidden words of all held-out reports; the same words every time.

    Raises:
        UserError: no word was hidden, since the held-out reports are too few and too short.
    """
    training = module.training
    module.eval()
    generator = torch.Generator(device=device).manual_seed(seed)
    total, count = 0.0, 0.0
    for begin in range(0, len(source.validation), batch_size):
        mean, number = module(source.batch(source.validation[begin : begin + batch_size], device), generator)[TERM]
        total, count = total + float(mean) * float(number), count + float(number)
    module.train(training)
    if not count:
        raise UserError(f"{len(source.validation)} held-out reports have no word to hide; give more reports")
    return math.exp(min(total / count, 700.0))
