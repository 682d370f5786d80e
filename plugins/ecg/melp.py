"""MELP's ECG encoder: wav2vec2-CMSC with two attention poolers, one for contrast and one for the caption decoder.

Paper: From Token to Rhythm: A Multi-Scale Approach for ECG-Language Pretraining, Wang et al., ICML 2025 (arXiv 2506.21803).
Code and weights: https://github.com/HKU-MedAI/MELP (MIT). Written from the paper and parity data.

As published: the embedding that a linear probe reads leaves out the projection that zero-shot uses; here they are
`Features.embedding` and `Features.record`, and both are projected in the corrected entry `melp-projected`. The published
stage-1 model masks tokens at random even when evaluated; its embeddings, and this encoder, do not. The number of contrast
queries differs between published files (10, 12, 13) and is read from the file. Its leads are in MIMIC-IV-ECG's order, aVF
before aVL.
Shapes: B records, L leads, T samples, N tokens, Q queries, D channels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import Shapes, TextTower
from melp_plugins.ecg.wav2vec2 import MELP_UNUSED, MIMIC_LEADS, SIZES, BackboneMasking, Wav2Vec2, size_of

SHARED = 256
CAPTION = 768  # in every published size, for the text decoder
POOLER_HEADS = 8


class AttentionPooler(nn.Module):
    """Learned queries that attend to the tokens once (CoCa's attentional pooler)."""

    def __init__(self, queries: int, width: int, context: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(queries, width))
        self.attn = nn.MultiheadAttention(width, POOLER_HEADS, kdim=context, vdim=context, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(context)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return one state per query (B, Q, D) of tokens (B, N, context)."""
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)  # (B, Q, D)
        keys = self.ln_k(tokens)
        pooled: Tensor = self.attn(query, keys, keys, need_weights=False)[0]
        return pooled


class MELPEncoder(BackboneMasking, mb.ECGEncoder):
    """Beats are the contrast queries, tokens the caption queries that the text decoder reads."""

    spec = mb.SignalSpec(rate_hz=500.0, seconds=10.0, leads=MIMIC_LEADS, scaling=mb.Scaling.MINMAX_RECORD)
    projected = True
    corpora = ("mimic-iv-ecg",)

    def __init__(
        self,
        projected_probe: bool = False,
        *,
        size: str = "small",
        contrast_queries: int = 13,
        caption_queries: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.projected_probe = projected_probe
        if size not in SIZES:
            raise mb.UserError(f"option 'size' of 'melp' is {size!r}; wanted one of {', '.join(SIZES)}")
        self.width, context = CAPTION, SIZES[size].width
        self.ecg_encoder = Wav2Vec2(SIZES[size], dropout=dropout)
        self.attn_pool_contrast = AttentionPooler(contrast_queries, SHARED, context)
        self.ln_contrast = nn.LayerNorm(SHARED)
        self.proj_contrast = nn.Parameter(SHARED**-0.5 * torch.randn(SHARED, SHARED))
        self.attn_pool_caption = AttentionPooler(caption_queries, CAPTION, context)
        self.ln_caption = nn.LayerNorm(CAPTION)

    @property
    def record_width(self) -> int:
        """Channels of the space shared with reports."""
        return SHARED

    @property
    def embedding_width(self) -> int:
        """Channels that probes read."""
        return SHARED

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of signal (B, L, T)."""
        return self.pooled(self.ecg_encoder(signal))

    def pooled(self, tokens: Tensor) -> mb.Features:
        """Return features of the backbone's tokens (B, N, D)."""
        queries = self.ln_contrast(self.attn_pool_contrast(tokens))  # (B, Q, 256)
        beats = queries @ self.proj_contrast  # (B, Q, 256)
        caption = self.ln_caption(self.attn_pool_caption(tokens))  # (B, 128, 768)
        probed = beats if self.projected_probe else queries
        return mb.Features(record=beats.mean(1), embedding=probed.mean(1), segments=beats, tokens=caption)

    def wav2vec2(self) -> Wav2Vec2:
        """Return the backbone, for masked prediction."""
        return self.ecg_encoder


def _options(shapes: Shapes) -> dict[str, Any]:
    caption = shapes.get("attn_pool_caption.query")
    if caption is None:
        raise mb.UserError("this 'melp' checkpoint has no caption pooler ('attn_pool_caption.query'); the file is not whole")
    sizes = size_of(shapes, "ecg_encoder.encoder.layers.{}.fc1.weight")
    return {**sizes, "contrast_queries": shapes["attn_pool_contrast.query"][0], "caption_queries": caption[0]}


TEXT = TextTower(
    component="hf",
    options={"causal": True, "frozen_layers": 6},
    model="hf:fuyingw/heart_bert",
    heads="melp",
    head_options={"width": SHARED, "queries": 0},
    keys=mb.Family(
        name="melp-text",
        anchor="lm_model.bert.embeddings.word_embeddings.weight",
        renames=(
            ("lm_model.bert.*", "text_encoder.body.*"),
            ("proj_t.*", "heads.report.*"),
            ("sent_proj.*", "heads.sentences.*"),
        ),
        tied=(
            ("lm_model.cls.predictions.decoder.weight", "lm_model.bert.embeddings.word_embeddings.weight"),
            ("lm_model.cls.predictions.decoder.bias", "lm_model.cls.predictions.bias"),
        ),
        unused=(
            ("lm_model.cls.*", "guesses masked words; only the stages before used it"),
            ("lm_model.bert.embeddings.position_ids", "a table that follows from the configuration"),
            ("text_decoder.*", "the caption decoder, which no evaluation reads"),
            ("ecg_encoder.*", "the ECG encoder's, which features never read"),
            ("logit_scale", "the contrast's temperature; objectives have their own"),
        ),
    ),
)

FAMILY = mb.Family(
    name="melp",
    anchor="attn_pool_contrast.query",
    prefixes=("ecg_encoder.", ""),
    unused=MELP_UNUSED,
    options=_options,
    elsewhere="belongs to the text model, its decoder or the losses, not to the ECG encoder",
    files="https://github.com/HKU-MedAI/MELP; hf:fuyingw/MELP_Encoder",
    text=TEXT,
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return MELP's ECG encoder, and the one whose probes read what zero-shot reads."""
    paper, what = "https://arxiv.org/abs/2506.21803", "MELP's ECG encoder"
    parts = f"{what}: wav2vec2-CMSC, 8 layers, with contrast and caption poolers"
    probed = f"{what}, of which probes read the projection that zero-shot reads"
    return [
        mb.Entry("melp", MELPEncoder, parts, paper, "MIT", FAMILY),
        mb.Entry("melp-projected", partial(MELPEncoder, True), probed, paper, "MIT", FAMILY),
    ]
