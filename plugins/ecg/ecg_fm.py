"""ECG-FM: wav2vec2-CMSC with random lead masking, 12 layers; its features, and its finetuned classifier.

Paper: ECG-FM: An Open Electrocardiogram Foundation Model, McKeen et al. 2024 (arXiv 2408.05178).
Code and weights: https://github.com/bowang-lab/ECG-FM, `hf:wanglab/ecg-fm` (MIT). Written from the paper and parity data.

The public weights saw PhysioNet 2021, which holds PTB-XL, CPSC2018, Georgia and Chapman-Shaoxing/Ningbo: rows on those are not
transfer. The same backbone at MELP's size (`wav2vec2-cmsc`) is what MELP starts from, and its baseline Wav2Vec2+CMSC+RLM.
Shapes: B records, L leads, T samples, N tokens, D channels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import Shapes
from melp_plugins.ecg.wav2vec2 import (
    MELP_UNUSED,
    MIMIC_LEADS,
    SIZES,
    UNUSED,
    BackboneMasking,
    Wav2Vec2,
    mean_of_nonzero,
    size_of,
)

ANCHOR = "encoder.layers.0.self_attn.k_proj.weight"


class Wav2Vec2CMSC(BackboneMasking, mb.ECGEncoder):
    """The bare backbone; a record is the mean of its tokens."""

    spec = mb.SignalSpec(rate_hz=500.0, seconds=10.0, leads=MIMIC_LEADS, scaling=mb.Scaling.MINMAX_RECORD)
    corpora: tuple[str, ...] = ("mimic-iv-ecg",)

    def __init__(self, *, size: str = "small", dropout: float = 0.1) -> None:
        super().__init__()
        if size not in SIZES:
            raise mb.UserError(f"option 'size' is {size!r}; wanted one of {', '.join(SIZES)}")
        self.width = SIZES[size].width
        self.backbone = Wav2Vec2(SIZES[size], dropout=dropout)

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of signal (B, L, T)."""
        tokens = self.backbone(signal)
        pooled = mean_of_nonzero(tokens)
        return mb.Features(record=pooled, embedding=pooled, tokens=tokens)

    def wav2vec2(self) -> Wav2Vec2:
        """Return the backbone, for masked prediction."""
        return self.backbone


class ECGFM(Wav2Vec2CMSC):
    """ECG-FM's backbone, on segments of 5 s of a record that is z-scored as a whole; a record's embedding is their mean."""

    spec = mb.SignalSpec(
        rate_hz=500.0, seconds=5.0, leads=mb.LEADS, scaling=mb.Scaling.ZSCORE_RECORD, crops=mb.Crops(pool="mean")
    )
    corpora: tuple[str, ...] = ("mimic-iv-ecg", "physionet-2021")
    corpora_source = "the paper, and the name of the file of the pretrained weights"

    def __init__(self, *, size: str = "base", dropout: float = 0.1) -> None:
        super().__init__(size=size, dropout=dropout)


class ECGFMClassifier(ECGFM):
    """ECG-FM finetuned on MIMIC-IV-ECG's labels; `logits` answers them, and features are those of the finetuned backbone."""

    def __init__(self, *, size: str = "base", labels: int = 17, dropout: float = 0.1) -> None:
        super().__init__(size=size, dropout=dropout)
        self.proj = nn.Linear(self.width, labels).requires_grad_(False)  # features do not read it

    def logits(self, signal: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return one logit per label (B, C); `padding` (B, T) is True where a sample is none."""
        out: Tensor = self.proj(mean_of_nonzero(self.backbone(signal, padding)))
        return out


def _classifier_options(shapes: Shapes) -> dict[str, Any]:
    if "proj.weight" not in shapes:
        raise mb.UserError("this checkpoint has no classifier ('proj.weight'); import it as 'ecg-fm'")
    return {**size_of(shapes, "encoder.encoder.layers.{}.fc1.weight"), "labels": shapes["proj.weight"][0]}


HUB = "hf:wanglab/ecg-fm"
ECG_FM = mb.Family(
    name="ecg-fm",
    anchor=ANCHOR,
    renames=(("*", "backbone.*"),),
    unused=UNUSED,
    options=partial(size_of, layer="encoder.layers.{}.fc1.weight"),
    files=f"{HUB}/mimic_iv_ecg_physionet_pretrained.pt",
)
CLASSIFIER = mb.Family(
    name="ecg-fm-classifier",
    anchor=f"encoder.{ANCHOR}",
    renames=(("encoder.*", "backbone.*"),),
    unused=(("encoder.mask_emb", "masked prediction's; the objective `masked` has its own"),),
    options=_classifier_options,
    files=f"{HUB}/mimic_iv_ecg_finetuned.pt",
)
STAGE_1 = mb.Family(
    name="wav2vec2-cmsc",
    anchor=f"ecg_encoder.{ANCHOR}",
    prefixes=("", "ecg_encoder."),
    renames=(("ecg_encoder.*", "backbone.*"),),
    unused=MELP_UNUSED,
    options=partial(size_of, layer="ecg_encoder.encoder.layers.{}.fc1.weight"),
    elsewhere="stands outside the model that was pretrained",
    files="https://github.com/HKU-MedAI/MELP",
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return the wav2vec2-CMSC encoders."""
    paper, license_ = "https://arxiv.org/abs/2408.05178", "MIT"
    return [
        mb.Entry("ecg-fm", ECGFM, "ECG-FM's pretrained backbone: wav2vec2-CMSC, 12 layers, 5 s", paper, license_, ECG_FM),
        mb.Entry(
            "ecg-fm-classifier", ECGFMClassifier, "ECG-FM finetuned on 17 labels of MIMIC-IV-ECG", paper, license_, CLASSIFIER
        ),
        mb.Entry(
            "wav2vec2-cmsc",
            Wav2Vec2CMSC,
            "wav2vec2-CMSC at MELP's size, 8 layers, 10 s: the baseline and MELP's stage 1",
            "https://arxiv.org/abs/2203.06889",
            "MIT",
            STAGE_1,
        ),
    ]
