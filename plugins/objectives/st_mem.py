"""ST-MEM's pretraining: rebuild the masked patches of every lead from the visible patches of all leads.

Paper: Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship of Electrocardiogram (Na et al.,
    ICLR 2024), https://arxiv.org/abs/2402.09450
Licence of the published code and weights: CC BY-NC 4.0. Written from the paper; parameter names are the published ones.
Shapes: B records, L leads, T samples, P patches of a lead, K patches kept of a lead, S samples of a patch, E decoder channels.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.ecg.prenorm_block import Block
from melp_plugins.ecg.st_mem import LICENSE, PAPER, sine_cosine_table

NORM_EPS = 1e-6  # of the decoder's last normalisation, and beside the variance of a patch


class PatchEncoder(Protocol):
    """What the objective needs of an encoder."""

    patch: int
    patches: int

    def encode_visible(self, signal: Tensor, visible: Tensor) -> Tensor:
        """Return states (B, L, K + 2, D) of the named patches between two separators."""


class MaskedLeads(mb.Objective):
    """Mean squared error on masked patches, each target patch normalised by itself.

    The decoder sees one lead at a time, so that what other leads know must have come through the encoder.
    """

    scale = "signal"

    def __init__(
        self,
        sizes: mb.Sizes,
        *,
        mask_ratio: float = 0.75,
        decoder_width: int = 256,
        decoder_depth: int = 4,
        decoder_heads: int = 4,
        patch: int = 75,
        patches: int = 30,
        normalise_patches: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1 or int(patches * (1 - mask_ratio)) < 1:
            raise mb.UserError(
                f"option 'mask_ratio' is {mask_ratio!r}; wanted more than 0, and so that one of {patches} patches is left"
            )
        self.kept, self.patch, self.patches = int(patches * (1 - mask_ratio)), patch, patches
        self.normalise_patches = normalise_patches
        self.to_decoder_embedding = nn.Linear(sizes.ecg_tokens, decoder_width)
        self.mask_embedding = nn.Parameter(torch.randn(1, 1, decoder_width) * 0.02)
        self.decoder_pos_embed = nn.Parameter(sine_cosine_table(patches, decoder_width), requires_grad=False)
        self.decoder_blocks = nn.Sequential(
            *(Block(decoder_width, decoder_heads, 4 * decoder_width) for _ in range(decoder_depth))
        )
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=NORM_EPS)
        self.decoder_head = nn.Linear(decoder_width, patch)

    def forward(self, signal: Tensor, encoder: nn.Module) -> Tensor:
        """Return the loss under a mask drawn at random.

        Raises:
            NotApplicable: the encoder does not encode a part of its patches, or cuts others than these.
        """
        if not hasattr(encoder, "encode_visible"):
            raise mb.NotApplicable("needs an encoder that can leave patches out, such as 'st-mem-base'")
        patch_encoder = cast(PatchEncoder, encoder)
        if (patch_encoder.patch, patch_encoder.patches) != (self.patch, self.patches):
            raise mb.NotApplicable(f"is built for {self.patches} patches of {self.patch} samples")
        noise = torch.rand(*signal.shape[:2], self.patches, device=signal.device)
        visible, restore, mask = self.choose(noise)
        return self.loss(signal, self.decode(patch_encoder.encode_visible(signal, visible), restore), mask)

    def choose(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return, of noise (B, L, P), the visible patches by smallest noise (B, L, K), the order that restores, and the mask.

        The mask is 1 where a patch is removed.
        """
        order = noise.argsort(dim=-1)
        restore = order.argsort(dim=-1)
        return order[..., : self.kept], restore, (restore >= self.kept).to(noise.dtype)

    def decode(self, states: Tensor, restore: Tensor) -> Tensor:
        """Return predicted patches (B, L, P, S) of the encoder's states (B, L, K + 2, D)."""
        x = self.to_decoder_embedding(states)  # (B, L, K + 2, E)
        missing = self.mask_embedding[None].expand(*x.shape[:2], self.patches - self.kept, -1)
        patches = torch.cat([x[:, :, 1:-1], missing], dim=2)  # (B, L, P, E), visible first
        patches = patches.gather(2, restore[..., None].expand_as(patches))
        x = torch.cat([x[:, :, :1], patches, x[:, :, -1:]], dim=2) + self.decoder_pos_embed[:, None]
        x = self.decoder_blocks(x.flatten(0, 1))  # (B L, P + 2, E)
        out: Tensor = self.decoder_head(self.decoder_norm(x)[:, 1:-1])
        return out.reshape(*restore.shape, self.patch)

    def loss(self, signal: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        """Return the mean squared error over the masked patches."""
        target = signal.reshape(*signal.shape[:2], -1, self.patch)  # (B, L, P, S)
        if self.normalise_patches:
            variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
            target = (target - mean) / (variance + NORM_EPS).sqrt()
        error = (predicted - target).square().mean(dim=-1)  # (B, L, P)
        return (error * mask).sum() / mask.sum()


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
