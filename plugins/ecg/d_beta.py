"""D-BETA's ECG branch: wav2vec2 with a class token, and the pooler that its contrast reads.

Paper: Boosting Masked ECG-Text Auto-Encoders as Discriminative Learners, Pham et al., ICML 2025 (arXiv 2410.02131).
Code: https://github.com/manhph2211/D-BETA, weights `hf:Manhph2211/D-BETA` (CC BY-NC 4.0).
Written from the paper and parity data. How the authors scale amplitudes is not stated; millivolts are assumed.
Shapes: B records, L leads, T samples, N tokens, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.ecg.wav2vec2 import SIZES, UNUSED, BackboneMasking, Wav2Vec2

WIDTH = SIZES["small"].width


class Pooler(nn.Module):
    """A dense layer and tanh on the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, D) of tokens (B, 1 + N, D)."""
        pooled: Tensor = torch.tanh(self.dense(tokens[:, 0]))
        return pooled


class DBeta(BackboneMasking, mb.ECGEncoder):
    """The class token goes in after the positional convolution; the pooled record is what contrast and probes read."""

    spec = mb.SignalSpec(rate_hz=500.0, seconds=10.0, leads=mb.LEADS, scaling=mb.Scaling.MILLIVOLT)
    width = WIDTH
    projected = True
    corpora = ("mimic-iv-ecg",)

    def __init__(self, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.ecg_encoder = Wav2Vec2(SIZES["small"], dropout=dropout)
        self.multi_modal_ecg_proj = nn.Linear(WIDTH, WIDTH)
        self.unimodal_ecg_pooler = Pooler()

    def encode(self, local: Tensor, masked: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        """Return context (B, 1 + N, D) of local features (B, N, 256), class token first; some masked as in the backbone."""
        x = self.ecg_encoder.positioned(local, masked, stand_in)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)  # (B, 1 + N, D)
        absent = None if masked is None or stand_in is not None else F.pad(masked, (1, 0))  # the class token is never left out
        context: Tensor = self.ecg_encoder.encoder(x, absent)
        return context if absent is None else context.masked_fill(absent[..., None], 0.0)

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of signal (B, L, T)."""
        tokens = self.multi_modal_ecg_proj(self.encode(self.ecg_encoder.local_features(signal)))  # (B, 1 + N, D)
        pooled = self.unimodal_ecg_pooler(tokens)
        return mb.Features(record=pooled, embedding=pooled, tokens=tokens[:, 1:])

    def wav2vec2(self) -> Wav2Vec2:
        """Return the backbone, for masked prediction."""
        return self.ecg_encoder

    def contextual(self, normed: Tensor, masked: Tensor, stand_in: Tensor | None) -> Tensor:
        """Return context (B, N, D) of partly masked local features (B, N, 256), without the class token."""
        return self.encode(normed, masked, stand_in)[:, 1:]


CROSS = "part of the fusion of both modalities or of its heads, not of the ECG branch"
TEXT = "belongs to the text branch"
FAMILY = mb.Family(
    name="d-beta",
    anchor="multi_modal_ecg_proj.weight",
    files="hf:Manhph2211/D-BETA/sample.pt",
    unused=(
        *((f"ecg_encoder.{template}", reason) for template, reason in UNUSED),
        *((f"{name}.*", TEXT) for name in ("language_encoder", "multi_modal_language_proj", "unimodal_language_pooler")),
        *(
            (f"{name}.*", CROSS)
            for name in (
                "modality_type_embeddings",
                "multi_modal_ecg_layers",
                "multi_modal_language_layers",
                "multi_modal_ecg_pooler",
                "multi_modal_language_pooler",
                "mlm_head",
                "mim_head",
                "itm_head",
            )
        ),
    ),
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return D-BETA's ECG branch."""
    return [
        mb.Entry(
            name="d-beta",
            build=DBeta,
            summary="D-BETA's ECG branch: wav2vec2 with a class token, 8 layers",
            source="https://arxiv.org/abs/2410.02131",
            license="CC-BY-NC-4.0",
            published=FAMILY,
        )
    ]
