"""ECG-CoCa's ECG tower: a vision transformer on patches of all leads at once, of which the class token is projected.

Paper: ECG-Chat: A Large ECG-Language Model for Cardiac Disease Diagnosis (Zhao et al., ICME 2025),
    https://arxiv.org/abs/2408.08849
Code: https://github.com/YubaoZhao/ECG-Chat, which states no licence. Written from the paper and parity data.
Trained on MIMIC-IV-ECG with reports, and on the training parts of Chapman-Shaoxing-Ningbo and SPH with their labels in words,
as the published training script names them (`open_clip/training/data.py`); PTB-XL and CPSC2018 only tested it.
As published: 10 s at 500 Hz in millivolt, neither filtered nor scaled; the code's mean and deviation are 0 and 1. The locked
text tower (MedCPT) and the caption decoder are not made here.
Shapes: B records, L leads, T samples, N patches, D channels, S = 512 channels of the space shared with reports.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.ecg.prenorm_block import PreNormBlock

WIDTH, DEPTH, HEADS, SHARED = 768, 12, 12, 512
PATCH = 50  # samples


class ECGCoCa(mb.ECGEncoder):
    """The tower; `record` and `embedding` are the projected class token, tokens are the patches that captions are read from."""

    spec = mb.SignalSpec(rate_hz=500.0, seconds=10.0, scaling=mb.Scaling.MILLIVOLT)
    width = WIDTH
    projected = True
    corpora = ("mimic-iv-ecg", "csn", "sph")
    corpora_source = "open_clip/training/data.py of https://github.com/YubaoZhao/ECG-Chat; of csn and sph the training parts"

    def __init__(self) -> None:
        super().__init__()
        positions = 1 + self.spec.samples // PATCH
        self.class_embedding = nn.Parameter(WIDTH**-0.5 * torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(WIDTH**-0.5 * torch.randn(positions, WIDTH))
        self.proj = nn.Parameter(WIDTH**-0.5 * torch.randn(WIDTH, SHARED))
        self.conv1 = nn.Conv1d(len(self.spec.leads), WIDTH, PATCH, PATCH, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.blocks = nn.ModuleList(PreNormBlock(WIDTH, HEADS, 4 * WIDTH) for _ in range(DEPTH))

    @property
    def record_width(self) -> int:
        """Channels of the space shared with reports."""
        return SHARED

    @property
    def embedding_width(self) -> int:
        """Channels of the projected class token."""
        return SHARED

    def embedded(self, signal: Tensor) -> Tensor:
        """Return the normalised tokens (B, 1 + N, D) that enter the blocks, the class token first."""
        patches = self.conv1(signal).transpose(1, 2)  # (B, N, D)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        normed: Tensor = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        return normed

    def states(self, signal: Tensor) -> Tensor:
        """Return the last block's tokens (B, 1 + N, D), before the last normalisation."""
        x = self.embedded(signal)
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of signal (B, L, T)."""
        states = self.ln_post(self.states(signal))  # (B, 1 + N, D)
        record = states[:, 0] @ self.proj  # (B, S)
        return mb.Features(record=record, embedding=record, tokens=states[:, 1:])


BLOCK = "transformer.resblocks.{}."
FAMILY = mb.Family(
    name="ecg-coca",
    anchor="positional_embedding",
    prefixes=("ecg.", ""),
    renames=(
        (f"{BLOCK}ln_1.*", "blocks.{}.attn.norm.*"),
        (f"{BLOCK}attn.in_proj_weight", "blocks.{}.attn.fn.to_qkv.weight"),
        (f"{BLOCK}attn.in_proj_bias", "blocks.{}.attn.fn.to_qkv.bias"),
        (f"{BLOCK}attn.out_proj.*", "blocks.{}.attn.fn.to_out.0.*"),
        (f"{BLOCK}ln_2.*", "blocks.{}.ff.norm.*"),
        (f"{BLOCK}mlp.c_fc.*", "blocks.{}.ff.fn.net.0.*"),
        (f"{BLOCK}mlp.c_proj.*", "blocks.{}.ff.fn.net.3.*"),
    ),
    elsewhere="belongs to the text tower, the caption decoder or the loss, not to the ECG tower",
    files="your own training run of https://github.com/YubaoZhao/ECG-Chat, which publishes no weights",
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return ECG-CoCa's ECG tower."""
    return [
        mb.Entry(
            name="ecg-coca",
            build=ECGCoCa,
            summary="ECG-CoCa's ECG tower (ECG-Chat): a vision transformer on all leads, 12 layers",
            source="https://arxiv.org/abs/2408.08849",
            license="none stated",
            published=FAMILY,
        )
    ]
