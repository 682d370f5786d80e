"""Masked words: some words of a report are hidden, and guessed from those before and after them.

Papers: BERT, Devlin et al. 2019 (arXiv 1810.04805); MELP's first stage for text, Wang et al. 2025 (arXiv 2506.21803).
The text encoder reads both ways, also where it is causal in alignment; its table of words, tied, makes the logits.
The loss is the logarithm of the perplexity on the hidden words.
Shapes: B reports, N tokens, M hidden words, D channels, V words of the vocabulary.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb


def hide(
    batch: mb.TextBatch, *, mask_id: int, vocab: int, chosen: float = 0.15, masked: float = 0.8, swapped: float = 0.1
) -> tuple[mb.TextBatch, Tensor]:
    """Return the reports with words hidden, and which of them are to be guessed (B, N).

    Of the words `chosen` are guessed; of these `masked` are replaced by the mask and `swapped` by a word at random.
    """
    ids, device = batch.ids, batch.ids.device
    guessed = (batch.sentences >= 0) & (torch.rand(ids.shape, device=device) < chosen)
    fate = torch.rand(ids.shape, device=device)
    random = torch.randint(vocab, ids.shape, device=device)
    shown = torch.where(guessed & (fate < masked), mask_id, ids)
    shown = torch.where(guessed & (fate >= masked) & (fate < masked + swapped), random, shown)
    return mb.TextBatch(shown, batch.mask, batch.sentences), guessed


class MaskedWords(mb.Objective):
    """The cross entropy of hidden words; BERT's transform stands between the states and the table of words."""

    scale: ClassVar[str] = "token"

    def __init__(self, sizes: mb.Sizes, *, chosen: float, masked: float, swapped: float) -> None:
        super().__init__()
        self.vocab, self.chosen, self.masked, self.swapped = sizes.vocab, chosen, masked, swapped
        width = sizes.text_tokens
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-12))
        self.bias = nn.Parameter(torch.zeros(sizes.vocab))

    def attach(self, model: mb.PretrainingModel) -> None:
        """Check that the text encoder can guess, and go on with the head that its authors left, if it has one.

        Raises:
            UserError: it cannot.
        """
        text: object = model.text_encoder
        if not isinstance(text, mb.GuessesWords) or text.mask_id is None:
            kind = type(text).__name__
            raise mb.UserError(f"'masked-words' needs a text encoder that can guess words, such as 'bert'; {kind!r} cannot")
        for name, tensor in text.guessing_head().items():
            self.get_parameter(name).data.copy_(tensor)

    def forward(self, reports: mb.TextBatch, text_encoder: mb.GuessesWords) -> tuple[Tensor, Tensor]:
        """Return the mean over the hidden words, and their number."""
        shown, guessed = hide(
            reports,
            mask_id=text_encoder.mask_id or 0,
            vocab=self.vocab,
            chosen=self.chosen,
            masked=self.masked,
            swapped=self.swapped,
        )
        states = self.transform(text_encoder.both_ways(shown)[guessed])  # (M, D)
        logits = F.linear(states, text_encoder.word_table(), self.bias)  # (M, V)
        count = guessed.sum()
        total = F.cross_entropy(logits.float(), reports.ids[guessed], reduction="sum")
        return total / count.clamp_min(1), count.float()


def masked_words(sizes: mb.Sizes, *, chosen: float = 0.15, masked: float = 0.8, swapped: float = 0.1) -> MaskedWords:
    """Return the objective; the shares are BERT's.

    Raises:
        UserError: there is no text encoder, or a share is out of its range.
    """
    if not sizes.text_tokens or not sizes.vocab:
        raise mb.UserError("the masked-words objective needs a text encoder; name one under [text]")
    if not 0 < chosen <= 1 or min(masked, swapped) < 0 or masked + swapped > 1:
        raise mb.UserError(
            f"'masked-words' with chosen {chosen}, masked {masked}, swapped {swapped}; wanted chosen in (0, 1], and shares "
            "of it that add up to 1 at most"
        )
    return MaskedWords(sizes, chosen=chosen, masked=masked, swapped=swapped)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer masked words."""
    return [
        mb.Entry(
            name="masked-words",
            build=masked_words,
            summary="hidden words of a report are guessed from the others; trains the text encoder",
            source="https://arxiv.org/abs/1810.04805",
            license="MIT",
        )
    ]
