"""ECG-JEPA (Weimann): vision transformers without biases on patches of twelve leads, with a register token.

Paper: Self-Supervised Pre-Training with Joint-Embedding Predictive Architecture Boosts ECG Classification Performance, Weimann
    and Conrad 2024, https://arxiv.org/abs/2410.13867. Another model of the same name is `ecg-jepa`.
Licence of the published code: MIT; no weights are public. Written from the paper and parity data; parameter names are the
published ones. The entries declare what the authors' pretraining on all corpora reads: MIMIC-IV-ECG, CODE-15%, the training
folds of PTB-XL (1 to 8), and the other databases of the PhysioNet Challenge 2021. Files pretrained on MIMIC-IV-ECG or PTB-XL
alone have the same keys, and cannot be told apart.
As published: 500 Hz, each lead less its mean and over its deviation in the training set, for which those of the record stand
here, clipped at 5. Pretrained on 10 s; the authors' evaluations read crops of 2.5 s, every 1.25 s, and pool logits: the entries
`-crops` pool the crops' embeddings. What the authors call linear is `AttentionProbe` on the tokens, the register among them.
Shapes: B records, L leads, T samples, P patches, N = 1 + P tokens, S samples of a patch in all leads, K classes, D channels.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import Shapes, count_blocks
from melp_plugins.ecg.kept_tokens import Kept
from melp_plugins.ecg.vit_block import ViTBlock

PAPER = "https://arxiv.org/abs/2410.13867"
PATCH, EPS = 25, 1e-6
SIZES = {"base": (768, 12, 12), "small": (384, 8, 6), "xs": (192, 8, 4)}  # width, depth, heads
WHOLE = mb.SignalSpec(rate_hz=500.0, seconds=10.0, scaling=mb.Scaling.ZSCORE_LEAD, clip=5.0)
CROPS = replace(WHOLE, seconds=2.5, crops=mb.Crops(overlap=0.5))


def interleaved_table(places: int, width: int) -> Tensor:
    """Return positions (1, places, width): even channels are sines, odd ones cosines."""
    frequencies = 10000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(places, dtype=torch.float64)[:, None] * frequencies  # (places, width / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()[None]


class PatchConvolution(nn.Module):
    """A patch of all leads to a token, under the published name."""

    def __init__(self, leads: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv1d(leads, width, PATCH, PATCH, bias=False)


class WeimannEncoder(mb.ECGEncoder):
    """Tokens are the register and the patches; the record is the register, and the embedding the mean of the patches."""

    corpora: tuple[str, ...] = ("mimic-iv-ecg", "code-15", "physionet-2021")
    corpora_source = "configs/pretrain/*_all.yaml of https://github.com/kweimann/ECG-JEPA; of PTB-XL, folds 1 to 8"
    token_rows, separators = 1, 0

    def __init__(self, spec: mb.SignalSpec, size: str, *, depth: int | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.width, full, heads = SIZES[size]
        self.context_width, self.local_width = self.width, PATCH * len(spec.leads)
        self.registers = nn.Parameter(0.02 * torch.randn(1, 1, self.width))
        self.patch_embed = PatchConvolution(len(spec.leads), self.width)
        self.blocks = nn.ModuleList(
            ViTBlock(self.width, heads, bias=False, eps=EPS) for _ in range(full if depth is None else depth)
        )
        self.norm = nn.LayerNorm(self.width, eps=EPS, bias=False)
        table = interleaved_table(WHOLE.samples // PATCH, self.width)
        self.register_buffer("pos_embed", table, persistent=False)
        self.pos_embed: Tensor

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of `signal` (B, L, T), of up to 10 s."""
        tokens = self.states(self.embed(self.local(signal)))
        return mb.Features(record=tokens[:, 0], embedding=tokens[:, 1:].mean(dim=1), tokens=tokens)

    def embed(self, patches: Tensor) -> Tensor:
        """Return patches (B, P, S) as tokens (B, P, D), without positions."""
        return F.linear(patches, self.patch_embed.proj.weight.flatten(1))

    def states(self, tokens: Tensor, places: Tensor | None = None, absent: Tensor | None = None) -> Tensor:
        """Return states (B, 1 + K, D), the register's first, of K patches' tokens (B, K, D).

        `places` (B, K) says which patches they are; without it they are the first. Nobody sees what is `absent` (B, K).
        """
        x = tokens + (self.pos_embed[:, : tokens.shape[1]] if places is None else self.pos_embed[0, places])
        x = torch.cat([self.registers.expand(x.shape[0], -1, -1), x], dim=1)
        sees = None if absent is None else F.pad(~absent, (1, 0), value=True)[:, None, None]  # (B, 1, 1, 1 + K)
        for block in self.blocks:
            x = block(x, sees)
        normed: Tensor = self.norm(x)
        return normed

    def local(self, signal: Tensor) -> Tensor:
        """Return the patches (B, P, S) of `signal` (B, L, T): a stretch of all leads, lead by lead."""
        return signal.unflatten(-1, (-1, PATCH)).transpose(1, 2).flatten(2)

    def normed(self, local: Tensor) -> Tensor:
        """Return the patches as they are: the spec has scaled them."""
        return local

    def contextual(self, normed: Tensor, masked: Tensor, stand_in: Tensor | None) -> Tensor:
        """Return the patches' states (B, P, D); see `mb.MaskedEncoding`. The register is never left out."""
        x = self.embed(normed)
        if stand_in is not None:
            return self.states(torch.where(masked[..., None], stand_in.to(x.dtype), x))[:, 1:]
        kept = Kept.of(x, masked)
        return kept.back(self.states(kept.tokens, kept.places, kept.absent)[:, 1:])


class AttentionProbe(nn.Module):
    """The authors' probe: a learned query attends to all tokens once, and its answer is projected to logits."""

    def __init__(self, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.cross_attention_block = nn.ModuleDict(
            {
                "q": nn.Linear(width, width, bias=False),
                "kv": nn.Linear(width, 2 * width, bias=False),
                "proj": nn.Linear(width, classes, bias=False),
            }
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (B, K) of tokens (B, N, D)."""
        layers = self.cross_attention_block
        q = layers["q"](self.query_token).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (1, H, 1, D / H)
        k, v = layers["kv"](tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, N, D / H)
        pooled = F.scaled_dot_product_attention(q.expand(tokens.shape[0], -1, -1, -1), k, v)
        logits: Tensor = layers["proj"](pooled.transpose(1, 2).flatten(2)).flatten(1)
        return logits


def family(size: str) -> mb.Family:
    """Return how files of a size are spelt: of a whole pretraining, the encoder that follows is the one that is probed."""
    return mb.Family(
        name=f"ecg-jepa-weimann-{size}",
        anchor="registers",
        prefixes=("", "target_encoder."),
        options=_depth,
        elsewhere="belongs to pretraining: the encoder that is followed, and the predictor",
        files="https://github.com/kweimann/ECG-JEPA (the code; no weights are public)",
    )


def _depth(shapes: Shapes) -> dict[str, Any]:
    return {"depth": count_blocks(shapes, "blocks.{}.norm1.weight")}


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return Weimann's ECG-JEPA in three sizes, on whole records and on crops."""
    return [
        mb.Entry(
            name=f"ecg-jepa-weimann-{size}{name}",
            build=partial(WeimannEncoder, spec, size),
            summary=f"ECG-JEPA (Weimann), ViT of size {size}, on {what}",
            source=PAPER,
            license="MIT",
            published=family(size),
        )
        for size in SIZES
        for name, spec, what in (("", WHOLE, "10 s"), ("-crops", CROPS, "crops of 2.5 s, as its authors test it"))
    ]
