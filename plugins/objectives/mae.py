"""Masked autoencoding: rebuild the stretches of a record whose tokens the encoder never saw. ST-MEM is its published form.

Papers: Masked Autoencoders Are Scalable Vision Learners, He et al. 2022, https://arxiv.org/abs/2111.06377; Guiding Masked
    Representation Learning to Capture Spatio-Temporal Relationship of Electrocardiogram (ST-MEM), Na et al. 2024,
    https://arxiv.org/abs/2402.09450, whose code and weights are CC BY-NC 4.0. Written from the papers.
On the encoder `st-mem-base` the defaults are ST-MEM's. Differs for other encoders: one whose tokens see all leads rebuilds
stretches of all leads, and where tokens are no whole number of samples apart, stretches overlap by a few samples.
Shapes: B records, L leads, R rows of tokens (of one lead each, or one of all), T samples, P tokens of a row, S samples of a
stretch, of all leads of its row, D channels of the encoder.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.masking import in_rows
from melp_plugins.objectives.row_decoder import NEEDS, RowDecoder, row_length, smallest_stay, stretches_of_rows

VARIANCE_EPS = 1e-6  # beside the variance of a stretch


class MaskedAutoencoder(mb.Objective):
    """Mean squared error on masked stretches, each target normalised by itself.

    The decoder sees one row of tokens at a time, so that what other leads know must have come through the encoder.
    """

    scale: ClassVar[str] = "signal"
    decoder: RowDecoder

    def __init__(
        self,
        sizes: mb.Sizes,
        *,
        mask_ratio: float = 0.75,
        decoder_width: int = 256,
        decoder_depth: int = 4,
        decoder_heads: int = 4,
        normalise_patches: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise mb.UserError(f"option 'mask_ratio' is {mask_ratio!r}; wanted more than 0 and less than 1")
        if min(decoder_width, decoder_depth, decoder_heads) < 1 or decoder_width % 2:
            raise mb.UserError(
                f"'mae' with decoder_width {decoder_width}, decoder_depth {decoder_depth}, decoder_heads {decoder_heads}; "
                "wanted an even width, and one block and one head at least"
            )
        self.mask_ratio, self.normalise_patches = mask_ratio, normalise_patches
        self.width, self.depth, self.heads = decoder_width, decoder_depth, decoder_heads

    def fits(self, encoder: mb.ECGEncoder) -> str | None:
        """Return why stretches of this encoder's records cannot be left out and rebuilt, or None."""
        if not isinstance(encoder, mb.MaskedEncoding):
            return NEEDS
        if encoder.token_rows not in (1, len(encoder.spec.leads)) or encoder.separators > 1:
            return f"rebuilds rows of one lead or of all, and the encoder has {encoder.token_rows} rows of tokens"
        if int((places := row_length(encoder)) * (1 - self.mask_ratio)) < 1:
            return f"leaves none of the encoder's {places} patches visible with mask_ratio {self.mask_ratio}"
        return None

    def attach(self, model: mb.PretrainingModel) -> None:
        """Build the decoder for the encoder's tokens.

        Raises:
            NotApplicable: the encoder does not fit.
        """
        encoder = model.encoder
        if (reason := self.fits(encoder)) is not None or not isinstance(encoder, mb.MaskedEncoding):
            raise mb.NotApplicable(reason or NEEDS)
        self.patches, self.rows = row_length(encoder), encoder.token_rows
        self.kept = int(self.patches * (1 - self.mask_ratio))
        samples = -(-encoder.spec.samples // self.patches) * len(encoder.spec.leads) // self.rows
        self.decoder = RowDecoder(encoder, self.patches, samples, width=self.width, depth=self.depth, heads=self.heads)

    def forward(self, signal: Tensor, encoder: mb.MaskedEncoding) -> Tensor:
        """Return the loss under a mask drawn at random."""
        mask = self.choose(torch.rand(len(signal), self.rows, self.patches, device=signal.device))
        normed = encoder.normed(encoder.local(signal))
        states = in_rows(encoder.contextual(normed, mask.flatten(1), None), encoder)
        return self.loss(signal, self.decoder(states, mask), mask)

    def choose(self, noise: Tensor) -> Tensor:
        """Return which stretches are masked (B, R, P): all but those of the smallest `noise` (B, R, P)."""
        return smallest_stay(noise, self.kept)

    def loss(self, signal: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        """Return the mean squared error of `predicted` (B, R, P, S) where `mask` (B, R, P) is True."""
        target = stretches_of_rows(signal, self.patches, self.rows)  # (B, R, P, S)
        if self.normalise_patches:
            variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
            target = (target - mean) / (variance + VARIANCE_EPS).sqrt()
        error = (predicted - target).square().mean(dim=-1)  # (B, R, P)
        loss: Tensor = (error * mask).sum() / mask.sum()
        return loss


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer masked autoencoding."""
    return [
        mb.Entry(
            name="mae",
            build=MaskedAutoencoder,
            summary="rebuild masked patches, row by row of the encoder's tokens (MAE; on st-mem-base ST-MEM)",
            source="https://arxiv.org/abs/2111.06377",
            license="MIT",
        )
    ]
