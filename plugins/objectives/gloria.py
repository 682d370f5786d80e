"""GLoRIA's local alignment: every word of a report against the tokens of a record.

Paper: GLoRIA, Huang et al., ICCV 2021 (https://doi.org/10.1109/ICCV48922.2021.00391): a word attends to the regions of an
image, and is compared with what it attends to. `beat` is MELP's form of it, sentences against beats; the arithmetic is one.
Written from the paper, in the form that its authors publish (a softmax over words before the one over regions). Differs in that
regions are the encoder's tokens, stretches of the record, in that pieces of a word are words, and in that the tokens that stand
around a report are among them. The global term of the paper is `rhythm`.
Shapes: B pairs, N words, M record tokens, D shared channels.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.beat import beat_alignment_loss


class LocalWords(mb.Objective):
    """Words and record tokens, each through a linear map into the shared space; negatives are one device's batch."""

    scale: ClassVar[str] = "token"

    def __init__(self, sizes: mb.Sizes, *, temperatures: tuple[float, float, float]) -> None:
        super().__init__()
        self.temperatures = temperatures
        self.tokens = nn.Linear(sizes.ecg_tokens, sizes.shared)
        self.words = nn.Linear(sizes.text_tokens, sizes.shared)

    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        """Return the loss of records and their reports.

        Raises:
            UserError: an encoder offers no tokens.
        """
        if ecg.tokens is None or text.tokens is None:
            raise mb.UserError("'gloria' needs tokens of records and words of reports; the encoders offer none")
        mask = text.tokens_mask
        if mask is None:
            mask = torch.ones(text.tokens.shape[:2], dtype=torch.bool, device=text.tokens.device)
        tokens, words = self.tokens(ecg.tokens), self.words(text.tokens)  # (B, M, D), (B, N, D)
        first, second, third = self.temperatures
        with torch.autocast(tokens.device.type, enabled=False):
            loss, _ = beat_alignment_loss(
                at_least_float32(tokens),
                at_least_float32(words),
                mask,
                beats_mask=ecg.tokens_mask,
                temperature1=first,
                temperature2=second,
                temperature3=third,
            )
        return loss

    def chance(self, batch: int) -> float:
        """Return ln(batch)."""
        return math.log(batch)


class GlobalLocalWords(LocalWords):
    """The same with the records and reports of all devices as negatives."""

    needs_global_batch: ClassVar[bool] = True


def gloria(
    sizes: mb.Sizes,
    *,
    temperature1: float = 4.0,
    temperature2: float = 5.0,
    temperature3: float = 10.0,
    global_batch: bool = False,
) -> LocalWords:
    """Return GLoRIA's local alignment with its published temperatures.

    Raises:
        UserError: there is no text encoder.
    """
    if not sizes.text_tokens:
        raise mb.UserError("'gloria' aligns words, and there is no text encoder; name one under [text]")
    kind = GlobalLocalWords if global_batch else LocalWords
    return kind(sizes, temperatures=(temperature1, temperature2, temperature3))


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer GLoRIA's local alignment."""
    return [
        mb.Entry(
            name="gloria",
            build=gloria,
            summary="local alignment of words and record tokens (GLoRIA)",
            source="https://doi.org/10.1109/ICCV48922.2021.00391",
            license="MIT",
        )
    ]
