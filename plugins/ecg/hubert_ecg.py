"""HuBERT-ECG in three sizes: convolutions and a post-norm transformer on the leads of a record, one after the other.

Paper: HuBERT-ECG as a Self-Supervised Foundation Model for Broad and Scalable Cardiac Application (Coppola et al. 2024),
    https://doi.org/10.1101/2024.11.14.24317328
Code: https://github.com/Edoar-do/HuBERT-ECG; code and weights are CC BY-NC 4.0. Written from the paper and parity data.
Trained on 9.1 million records of four countries, without labels: MIMIC-IV-ECG, CODE and public sets. Which of those that the
repository lists only tested it was not verified, so that all of them count as seen. Older files (`.pt`) hold a pickled
configuration and are refused; the authors' `hubert-ecg-convert` makes safetensors of them.

As published: a record is filtered to 0.05-47 Hz by a finite filter at its own rate, brought to 500 Hz, each lead scaled to
[-1, 1] over the record (here: over its first minute) and cut to 5 s; then its twelve leads are strung into one sequence, which
is decimated to 100 Hz, so that the filter against aliasing runs across the borders of leads. `hubert-ecg-resampled` is fed as a
public suite of benchmarks feeds it: brought to 100 Hz first, and filtered and scaled there, over the 5 s.
Shapes: B records, L = 12 leads, T = 500 samples, N = 93 tokens, D channels, K codes of a codebook.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.published.family import Shapes
from melp_plugins.ecg.wav2vec2 import BackboneMasking, Size, Wav2Vec2, size_of

SIZES = {"small": Size(8, 512, 8, 2048), "base": Size(12, 768, 12, 3072), "large": Size(16, 960, 12, 3840)}
CHANNELS, KERNELS, STRIDES = 512, (10, 3, 3, 2, 2), (4, 2, 2, 2, 2)
CODE_WIDTH, TEMPERATURE = 256, 0.1
BAND = mb.Filter(band=(0.05, 47.0), fir_seconds=0.3)
PUBLISHED = mb.SignalSpec(
    rate_hz=100.0, seconds=5.0, scaling=mb.Scaling.SYMMETRIC_LEAD, filter=BAND, scale_seconds=60.0, decimated_from_hz=500.0
)
SUITE = mb.SignalSpec(
    rate_hz=100.0, seconds=5.0, scaling=mb.Scaling.SYMMETRIC_LEAD, filter=replace(BAND, after_resampling=True)
)


class HuBERTECG(BackboneMasking, mb.ECGEncoder):
    """The backbone on one sequence of all leads; a record is the mean of its tokens."""

    local_width = CHANNELS
    corpora = ("mimic-iv-ecg", "code-15", "ptb-xl", "ptb-diagnostic", "cpsc2018", "g12ec", "csn", "sami-trop", "sph")
    corpora_source = (
        "figures and splits of https://github.com/Edoar-do/HuBERT-ECG, as sets that it may have seen, without labels"
    )

    def __init__(
        self,
        spec: mb.SignalSpec = PUBLISHED,
        *,
        size: str = "base",
        codebooks: tuple[int, ...] = (500,),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise mb.UserError(f"option 'size' of 'hubert-ecg' is {size!r}; wanted one of {', '.join(SIZES)}")
        self.spec, self.width = spec, SIZES[size].width
        self.backbone = Wav2Vec2(SIZES[size], leads=1, dropout=dropout, channels=CHANNELS, kernels=KERNELS, strides=STRIDES)
        self.final_proj = nn.ModuleList(nn.Linear(self.width, CODE_WIDTH) for _ in codebooks)
        self.label_embedding = nn.ModuleList(nn.Embedding(codes, CODE_WIDTH) for codes in codebooks)
        for unread in (self.final_proj, self.label_embedding):
            unread.requires_grad_(False)  # features do not read them

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of signal (B, L, T)."""
        tokens = self.backbone(strung(signal))
        pooled = tokens.mean(dim=1)
        return mb.Features(record=pooled, embedding=pooled, tokens=tokens)

    def codebook_logits(self, tokens: Tensor) -> list[Tensor]:
        """Return how near tokens (B, N, D) are to the codes of each codebook, (B, N, K): cosines over the temperature."""
        pairs = zip(self.final_proj, self.label_embedding, strict=True)
        return [F.normalize(to(tokens), dim=-1) @ F.normalize(of.weight, dim=-1).T / TEMPERATURE for to, of in pairs]

    def wav2vec2(self) -> Wav2Vec2:
        """Return the backbone, for masked prediction."""
        return self.backbone

    def local(self, signal: Tensor) -> Tensor:
        """Return local features (B, N, C) of signal (B, L, T)."""
        return self.backbone.convolved(strung(signal))


def strung(signal: Tensor) -> Tensor:
    """Return the leads of signal (B, L, T) one after the other, (B, 1, L T)."""
    return signal.flatten(1).unsqueeze(1)


def _options(shapes: Shapes) -> dict[str, Any]:
    sizes = size_of(shapes, "encoder.layers.{}.feed_forward.intermediate_dense.weight", SIZES)
    codes = {key: shape[0] for key, shape in shapes.items() if key.startswith("label_embedding.")}
    return {**sizes, "codebooks": tuple(codes[key] for key in sorted(codes))}


LAYER, OURS = "encoder.layers.{}.", "backbone.encoder.layers.{}."
FAMILY = mb.Family(
    name="hubert-ecg",
    anchor="encoder.layers.0.feed_forward.intermediate_dense.weight",
    prefixes=("", "hubert_ecg."),
    renames=(
        ("feature_extractor.conv_layers.{}.conv.*", "backbone.feature_extractor.conv_layers.{}.0.*"),
        ("feature_extractor.conv_layers.{}.layer_norm.*", "backbone.feature_extractor.conv_layers.{}.2.*"),
        ("feature_projection.layer_norm.*", "backbone.layer_norm.*"),
        ("feature_projection.projection.*", "backbone.post_extract_proj.*"),
        ("encoder.pos_conv_embed.conv.*", "backbone.conv_pos.pos_conv.0.*"),
        ("encoder.layer_norm.*", "backbone.encoder.layer_norm.*"),
        (f"{LAYER}attention.*", f"{OURS}self_attn.*"),
        (f"{LAYER}layer_norm.*", f"{OURS}self_attn_layer_norm.*"),
        (f"{LAYER}feed_forward.intermediate_dense.*", f"{OURS}fc1.*"),
        (f"{LAYER}feed_forward.output_dense.*", f"{OURS}fc2.*"),
        (f"{LAYER}final_layer_norm.*", f"{OURS}final_layer_norm.*"),
    ),
    unused=(("masked_spec_embed", "masked prediction's; the objective `masked` has its own"),),
    options=_options,
    elsewhere="belongs to the classifier of a fine-tuned model, which features do not read",
    files="hf:Edoardo-BS/hubert-ecg-{small,base,large}/model.safetensors",
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return HuBERT-ECG, fed as its authors fed it and as a public suite feeds it."""
    paper, what, license_ = "https://doi.org/10.1101/2024.11.14.24317328", "HuBERT-ECG (small, base, large)", "CC BY-NC 4.0"
    return [
        mb.Entry("hubert-ecg", HuBERTECG, f"{what}, leads strung and decimated to 100 Hz", paper, license_, FAMILY),
        mb.Entry(
            "hubert-ecg-resampled",
            partial(HuBERTECG, SUITE),
            f"{what}, resampled to 100 Hz first, as a public suite feeds it",
            paper,
            license_,
            FAMILY,
        ),
    ]
