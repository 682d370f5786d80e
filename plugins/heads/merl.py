"""MERL's heads: the record's projection in the form of its ResNets or its transformers, and the report's.

Paper: Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical Knowledge Enhancement (MERL),
    Liu et al. 2024, https://arxiv.org/abs/2403.06659.
`form="attention"` is that of the ResNets: tokens are narrowed by a convolution of one sample, and a learned token attends to
them once; the narrowed tokens, whose mean uni-modal alignment reads, are handed on. `form="mlp"` is that of the transformers:
two layers with batch normalisation on the encoder's record. Sentences are not aligned, and stay as they are.
Shapes: B records or reports, N tokens, D shared channels.
"""

from __future__ import annotations

from torch import nn

import melp_bench as mb
from melp_plugins.heads.melp import check_projected
from melp_plugins.layers import AttentionPool

FORMS = ("attention", "mlp")
POOL_HEADS = 4


class MERLHeads(mb.Heads):
    """A projection of records and one of reports, into `width` channels; what is already projected gets none."""

    def __init__(self, widths: mb.Widths, *, width: int, form: str) -> None:
        super().__init__()
        self.width = width
        self.narrow: nn.Linear | None = None
        self.pool: AttentionPool | None = None
        self.record: nn.Module = nn.Identity()
        if not widths.ecg_projected and form == "attention":
            self.narrow = nn.Linear(widths.ecg_tokens, width)
            self.pool = AttentionPool(widths.ecg_positions, width, POOL_HEADS)
            self.ecg_tokens = width
        elif not widths.ecg_projected:
            self.record = nn.Sequential(
                nn.Linear(widths.ecg_record, width),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.BatchNorm1d(width),
            )
        self.report: nn.Module = nn.Identity()
        if widths.text and not widths.text_projected:
            self.report = nn.Sequential(nn.Linear(widths.text, width), nn.GELU(), nn.Linear(width, width))

    def ecg(self, features: mb.Features) -> mb.Features:
        """Return records in the shared space; with attention, tokens in it too.

        Raises:
            UserError: the records have more tokens than the pool has positions.
        """
        if self.narrow is None or self.pool is None or features.tokens is None:
            return features.apply({"record": self.record(features.record)})
        tokens = self.narrow(features.tokens)  # (B, N, D)
        known = self.pool.positional_embedding.shape[1] - 1
        if tokens.shape[1] > known:
            raise mb.UserError(f"MERL's attention pool has {known} positions, and records have {tokens.shape[1]} tokens")
        return features.apply({"record": self.pool(tokens)[0], "tokens": tokens})

    def text(self, features: mb.Features) -> mb.Features:
        """Return reports in the shared space."""
        return features.apply({"record": self.report(features.record)})


def merl(widths: mb.Widths, *, width: int = 256, form: str = "attention") -> MERLHeads:
    """Return MERL's heads into `width` shared channels.

    Raises:
        UserError: an unknown form, a width that the pool's heads do not divide, an encoder without the tokens that it attends
            to, or one that is projected already, to another width.
    """
    if form not in FORMS:
        raise mb.UserError(f"form of heads 'merl' is {form!r}; wanted one of {', '.join(FORMS)}")
    if width < 1 or (form == "attention" and width % POOL_HEADS):
        raise mb.UserError(f"width of heads 'merl' is {width}; wanted a multiple of {POOL_HEADS}")
    if form == "attention" and not widths.ecg_positions and not widths.ecg_projected:
        raise mb.UserError("heads 'merl' attend to tokens, and the encoder offers none; set heads.form=mlp")
    check_projected(widths, width)
    return MERLHeads(widths, width=width, form=form)


@mb.hookimpl
def melp_heads() -> list[mb.Entry[mb.Heads]]:
    """Offer MERL's heads."""
    return [
        mb.Entry(
            name="merl",
            build=merl,
            summary="an attention pool or a perceptron for records, a perceptron for reports",
            source="https://arxiv.org/abs/2403.06659",
            license="MIT",
        )
    ]
