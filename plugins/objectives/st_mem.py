"""ST-MEM's pretraining: rebuild the masked patches of every lead from the visible patches of all leads.

Paper: Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship of Electrocardiogram (Na et al.,
    ICLR 2024), https://arxiv.org/abs/2402.09450
Licence of the published code and weights: CC BY-NC 4.0. Written from the paper; parameter names are the published ones.
Shapes: B records, L leads, R rows of patches (of one lead each, or one of all), T samples, P patches of a row, S samples of a
patch, D channels of the encoder, E of the decoder.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.masking import in_rows
from melp_plugins.ecg.prenorm_block import PreNormBlock
from melp_plugins.ecg.st_mem import LICENSE, PAPER, sine_cosine_table

NORM_EPS = 1e-6  # of the decoder's last normalisation, and beside the variance of a patch


class MaskedLeads(mb.Objective):
    """Mean squared error on masked patches, each target patch normalised by itself.

    The decoder sees one row of tokens at a time, so that what other leads know must have come through the encoder. Where an
    encoder's tokens see all leads, a patch is a stretch of all of them.
    """

    scale: ClassVar[str] = "signal"
    decoder_pos_embed: nn.Parameter

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
        self.mask_ratio, self.normalise_patches, self.width = mask_ratio, normalise_patches, decoder_width
        self.mask_embedding = nn.Parameter(torch.randn(1, 1, decoder_width) * 0.02)
        self.decoder_blocks = nn.Sequential(
            *(PreNormBlock(decoder_width, decoder_heads, 4 * decoder_width) for _ in range(decoder_depth))
        )
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=NORM_EPS)

    def fits(self, encoder: mb.ECGEncoder) -> str | None:
        """Return why patches of this encoder cannot be left out and rebuilt, or None."""
        if not isinstance(encoder, mb.MaskedEncoding):
            return "needs an encoder with masked encoding, such as 'st-mem-base'"
        patches, samples = patches_of(encoder), encoder.spec.samples
        if encoder.token_rows not in (1, len(encoder.spec.leads)) or encoder.separators > 1:
            return f"rebuilds rows of one lead or of all, and the encoder has {encoder.token_rows} rows of tokens"
        if samples % patches:
            return f"rebuilds whole patches, and {samples} samples are not a multiple of the encoder's {patches} tokens"
        if int(patches * (1 - self.mask_ratio)) < 1:
            return f"leaves none of the encoder's {patches} patches visible with mask_ratio {self.mask_ratio}"
        return None

    def attach(self, model: mb.PretrainingModel) -> None:
        """Build what depends on the encoder's patches.

        Raises:
            NotApplicable: the encoder does not fit.
        """
        encoder = model.encoder
        if (reason := self.fits(encoder)) is not None or not isinstance(encoder, mb.MaskedEncoding):
            raise mb.NotApplicable(reason or "needs an encoder with masked encoding")
        self.patches, self.rows, self.separators = patches_of(encoder), encoder.token_rows, encoder.separators
        self.kept = int(self.patches * (1 - self.mask_ratio))
        self.patch = encoder.spec.samples // self.patches  # samples of a lead
        table = sine_cosine_table(self.patches, self.width)
        self.decoder_pos_embed = nn.Parameter(table if self.separators else table[:, 1:-1], requires_grad=False)
        self.to_decoder_embedding = nn.Linear(encoder.context_width, self.width)
        self.decoder_head = nn.Linear(self.width, self.patch * len(encoder.spec.leads) // self.rows)

    def forward(self, signal: Tensor, encoder: mb.MaskedEncoding) -> Tensor:
        """Return the loss under a mask drawn at random."""
        mask = self.choose(torch.rand(len(signal), self.rows, self.patches, device=signal.device))
        normed = encoder.normed(encoder.local(signal))
        states = in_rows(encoder.contextual(normed, mask.flatten(1), None), encoder)
        return self.loss(signal, self.decode(states, mask), mask)

    def choose(self, noise: Tensor) -> Tensor:
        """Return which patches are masked (B, R, P): all but those of the smallest `noise` (B, R, P)."""
        return noise.argsort(dim=-1).argsort(dim=-1) >= self.kept

    def decode(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return predicted patches (B, R, P, S) of the encoder's states (B, R, P, D), between separators if it has any."""
        x = self.to_decoder_embedding(states)  # (B, R, P + 2, E)
        hidden = nn.functional.pad(mask, (self.separators, self.separators))
        x = torch.where(hidden[..., None], self.mask_embedding, x) + self.decoder_pos_embed[:, None]
        x = self.decoder_norm(self.decoder_blocks(x.flatten(0, 1)))  # (B R, P + 2, E)
        out: Tensor = self.decoder_head(x[:, self.separators : x.shape[1] - self.separators])
        return out.reshape(*mask.shape, -1)

    def loss(self, signal: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        """Return the mean squared error over the masked patches, where `mask` (B, R, P) is True."""
        target = signal.reshape(len(signal), self.rows, -1, self.patches, self.patch)  # (B, R, L / R, P, samples)
        target = target.transpose(2, 3).flatten(3)  # (B, R, P, S)
        if self.normalise_patches:
            variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
            target = (target - mean) / (variance + NORM_EPS).sqrt()
        error = (predicted - target).square().mean(dim=-1)  # (B, R, P)
        loss: Tensor = (error * mask).sum() / mask.sum()
        return loss


def patches_of(encoder: mb.ECGEncoder) -> int:
    """Return how many tokens an encoder with masked encoding cuts of a row, read off one silent record."""
    spec, training, like = encoder.spec, encoder.training, next(encoder.parameters())
    encoder.eval()
    with torch.no_grad():
        silent = like.new_zeros(1, len(spec.leads), spec.samples)
        found = encoder.local(silent).shape[1] // encoder.token_rows if isinstance(encoder, mb.MaskedEncoding) else 0
    encoder.train(training)
    return found


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Return ST-MEM's objective."""
    return [
        mb.Entry(
            name="st-mem-masked",
            build=MaskedLeads,
            summary="rebuild masked patches of every lead, decoded lead by lead (ST-MEM)",
            source=PAPER,
            license=LICENSE,
        )
    ]
