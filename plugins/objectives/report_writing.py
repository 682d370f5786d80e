"""Report writing: the captioning loss of a decoder that stands in the heads, and so is kept with the model and can write.

Paper: CoCa, Yu et al. 2022, https://arxiv.org/abs/2205.01917. The loss is that of `token`, whose decoder ends with pretraining;
here the states are those of heads that write (`WritesReports`), and the logits those of the text encoder's own word table, as
`captioning` reads them.
Shapes: B pairs, N words, D text channels, V vocabulary.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

import melp_bench as mb
from melp_bench.evaluations.report_writing import WordTable, WritesReports
from melp_plugins.objectives.token import caption_loss


class ReportWriting(mb.Objective):
    """The next word of a report from the words before it and from the record, by the model's own decoder."""

    scale: ClassVar[str] = "token"

    def __init__(self, sizes: mb.Sizes) -> None:
        super().__init__()
        self.pad_id = sizes.pad_id

    def attach(self, model: mb.PretrainingModel) -> None:
        """Check that the model can write.

        Raises:
            UserError: its heads hold no decoder, or its text encoder has no word table.
        """
        heads: object = model.heads
        text: object = model.text_encoder
        if not isinstance(heads, WritesReports) or not isinstance(text, WordTable):
            told = f"{type(heads).__name__!r} and {type(text).__name__!r}"
            raise mb.UserError(
                f"'report-writing' trains heads that write, as 'report-writer', beside a text encoder with a word table, as "
                f"'bert'; the recipe has {told}"
            )

    def forward(
        self, ecg: mb.Features, text: mb.Features, text_encoder: WordTable, heads: WritesReports
    ) -> tuple[Tensor, Tensor]:
        """Return the mean over the words of all reports but their first, and their number.

        Raises:
            UserError: the text encoder offers no ids of its words.
        """
        if text.token_ids is None or text.tokens_mask is None:
            raise mb.UserError("'report-writing' needs the words' ids and their mask; the text encoder offers none")
        labels = text.token_ids[:, 1:]  # (B, N - 1)
        real = text.tokens_mask[:, 1:] & (labels != self.pad_id)
        states = heads.next_words(ecg, text)[:, :-1][real]  # (words, D): padding is left out before the vocabulary
        logits = states @ text_encoder.word_table().T  # (words, V)
        return caption_loss(logits[None].float(), labels[real][None], pad_id=self.pad_id), real.sum().float()


def report_writing(sizes: mb.Sizes) -> ReportWriting:
    """Return the objective, which has no weights of its own.

    Raises:
        UserError: there is no causal text encoder.
    """
    if not sizes.text_tokens or not sizes.causal_text:
        raise mb.UserError(
            "'report-writing' needs a causal text encoder (bert with causal=true); another would show it the answer"
        )
    return ReportWriting(sizes)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer report writing."""
    return [
        mb.Entry(
            name="report-writing",
            build=report_writing,
            summary="captioning by the decoder in the heads, which is kept and can write reports",
            source="https://arxiv.org/abs/2205.01917",
            license="MIT",
        )
    ]
