"""ST-MEM encoders: a vision transformer on patches of single leads, with lead embeddings and separators.

Paper: Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship of Electrocardiogram (Na et al.,
    ICLR 2024), https://arxiv.org/abs/2402.09450
Licence of the published code and weights: CC BY-NC 4.0. Pretrained on Chapman, Ningbo and CODE-15%.
Written from the paper; parameter names are the published ones. As published: 9 s at 250 Hz, filtered to
0.67-40 Hz and standardised over the whole record. What kind of filter it was is not in the paper; here it is a Butterworth
filter of order 4, forwards and backwards.
The masked pretraining model's decoder is an objective's part, `mae`.
Shapes: B records, L leads, T samples, P patches of a lead, K patches kept of a lead, S samples of a patch, D channels.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.masking import in_rows
from melp_plugins.ecg.prenorm_block import PreNormBlock

PAPER = "https://arxiv.org/abs/2402.09450"
LICENSE = "CC BY-NC 4.0"
SIZES = {"small": (384, 6), "base": (768, 12)}  # width, heads


def sine_cosine_table(positions: int, width: int) -> Tensor:
    """Return fixed positions (1, positions + 2, width): sines, then cosines; first and last rows are zero."""
    frequencies = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies  # (positions, width / 2)
    table = torch.zeros(1, positions + 2, width)
    table[0, 1:-1] = torch.cat([angles.sin(), angles.cos()], dim=1).float()
    return table


class Patches(nn.Module):
    """Cut leads into patches; it holds the first place in the published numbering."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, signal: Tensor) -> Tensor:
        """Return (B, L, P, S)."""
        return signal.reshape(*signal.shape[:-1], -1, self.patch)


class StMem(mb.ECGEncoder):
    """ST-MEM's encoder.

    Every lead is a sequence [separator, patches, separator]; all leads' sequences are joined and attend to each other.
    """

    spec = mb.SignalSpec(rate_hz=250.0, seconds=9.0, scaling=mb.Scaling.ZSCORE_RECORD, filter=mb.Filter(band=(0.67, 40.0)))
    corpora = ("csn", "code-15")
    patch = local_width = 75
    depth = 12
    token_rows, separators = 12, 1  # of masked encoding: each lead is a row between two separators

    def __init__(self, size: str) -> None:
        super().__init__()
        self.width, heads = SIZES[size]
        num_leads, self.patches = len(self.spec.leads), self.spec.samples // self.patch
        self.to_patch_embedding = nn.Sequential(
            Patches(self.patch), nn.LayerNorm(self.patch), nn.Linear(self.patch, self.width), nn.LayerNorm(self.width)
        )
        self.pos_embedding = nn.Parameter(sine_cosine_table(self.patches, self.width), requires_grad=False)
        self.sep_embedding = nn.Parameter(torch.randn(self.width) * 0.02)
        self.lead_embeddings = nn.ParameterList(nn.Parameter(torch.randn(self.width) * 0.02) for _ in range(num_leads))
        for index in range(self.depth):
            self.add_module(f"block{index}", PreNormBlock(self.width, heads, 4 * self.width))
        self.norm = nn.LayerNorm(self.width)

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features: tokens are all leads' patches, lead by lead, without separators.

        The record's embedding is the mean over them, normalised after the mean.
        """
        states = self.transform(self.embed(signal))  # (B, L, P + 2, D)
        tokens = states[:, :, 1:-1].flatten(1, 2)  # (B, L P, D)
        pooled = self.norm(tokens.mean(dim=1))
        return mb.Features(record=pooled, embedding=pooled, tokens=tokens)

    def embed(self, signal: Tensor) -> Tensor:
        """Return patches with their positions (B, L, P, D)."""
        x: Tensor = self.to_patch_embedding(signal)
        return x + self.pos_embedding[:, 1:-1]

    def transform(self, patches: Tensor) -> Tensor:
        """Return the last block's states (B, L, K + 2, D) of any K patches of every lead, separators first and last."""
        shape = (*patches.shape[:2], 1, self.width)
        first = (self.sep_embedding + self.pos_embedding[:, :1]).expand(shape)
        last = (self.sep_embedding + self.pos_embedding[:, -1:]).expand(shape)
        x = torch.cat([first, patches, last], dim=2) + torch.stack(list(self.lead_embeddings))[:, None]
        x = x.flatten(1, 2)  # (B, L (K + 2), D)
        for index in range(self.depth):
            x = self.get_submodule(f"block{index}")(x)
        return x.reshape(len(x), patches.shape[1], -1, self.width)

    @property
    def context_width(self) -> int:
        """Channels of a patch's state."""
        return self.width

    def local(self, signal: Tensor) -> Tensor:
        """Return the patches (B, L P, S) of `signal` (B, L, T), lead by lead."""
        patches: Tensor = self.to_patch_embedding[0](signal)
        return patches.flatten(1, 2)

    def normed(self, local: Tensor) -> Tensor:
        """Return patches (B, L P, S), normed over their samples."""
        normed: Tensor = self.to_patch_embedding[1](local)
        return normed

    def contextual(self, normed: Tensor, masked: Tensor, stand_in: Tensor | None) -> Tensor:
        """Return normalised states (B, L (P + 2), D), each lead's between two separators; see `mb.MaskedEncoding`.

        Raises:
            UserError: patches are left out, not equally many of every lead.
        """
        x = self.to_patch_embedding[3](self.to_patch_embedding[2](normed))  # (B, L P, D)
        if stand_in is not None:
            x = torch.where(masked[..., None], stand_in.to(x.dtype), x)
        x = in_rows(x, self) + self.pos_embedding[:, 1:-1]  # (B, L, P, D)
        if stand_in is not None:
            states: Tensor = self.norm(self.transform(x))
            return states.flatten(1, 2)
        hidden = masked.reshape(x.shape[:3])  # (B, L, P)
        kept = int((~hidden[0, 0]).sum())
        if not bool(((~hidden).sum(dim=-1) == kept).all()):
            raise mb.UserError("'st-mem' leaves out equally many patches of every lead; these masks differ")
        visible = hidden.int().argsort(dim=-1, stable=True)[..., :kept]  # (B, L, K), in time's order
        seen = self.norm(self.transform(x.gather(2, visible[..., None].expand(-1, -1, -1, self.width))))
        states = seen.new_zeros(*x.shape[:2], x.shape[2] + 2, self.width)
        places = torch.nn.functional.pad(visible + 1, (1, 1))  # (B, L, K + 2): of separators, the ends
        places[..., -1] = x.shape[2] + 1
        return states.scatter(2, places[..., None].expand_as(seen), seen).flatten(1, 2)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return ST-MEM's two sizes."""
    return [
        mb.Entry(
            name=f"st-mem-{size}",
            build=partial(StMem, size),
            summary=f"ST-MEM's ViT-{size} on patches of single leads",
            source=PAPER,
            license=LICENSE,
            published=mb.Family(
                name=f"st-mem-{size}",
                anchor="sep_embedding",
                prefixes=("", "encoder."),
                unused=(("head.*", "the head of a fine-tuned file"),),
                elsewhere="belongs to the decoder of the masked pretraining model",
                keeps_elsewhere=True,
                files="https://github.com/bakqui/ST-MEM",
            ),
        )
        for size in SIZES
    ]
