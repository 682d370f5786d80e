"""KED's ECG encoder, a 101-layer 1-D xresnet; its text encoder and its label-query decoder are text tower and heads.

Paper: Foundation model of ECG diagnosis: Diagnostics and explanations of any form and rhythm on ECG (Tian et al., Cell Reports
    Medicine 2024), https://doi.org/10.1016/j.xcrm.2024.101875
Code: https://github.com/control-spiderman/ECGFM-KED, which states no licence; weights: https://zenodo.org/records/14881564.
Written from the paper and parity data; names of parameters are the published ones, below `layers.`.
Trained on MIMIC-IV-ECG with its machine reports (the paper, Methods); PTB-XL, Georgia, Chapman and CPSC2018 only tested it.

Three ways to feed the same weights:
- `ked`, as pretrained: 100 Hz, 10 s, in millivolt, leads as MIMIC-IV-ECG stores them, aVF before aVL.
- `ked-as-tested`, as the authors test on PTB-XL and others: aVL before aVF, so that two leads are exchanged, and standardised
  by one mean and deviation of the training folds, for which the z-score of each record stands here.
- `ked-500hz`, as a public suite of benchmarks feeds it: 500 Hz in millivolt, aVL before aVF; it was trained at 100 Hz.
Shapes: B records, L leads, T samples, N positions, D = 768 channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import TextTower
from melp_plugins.ecg.ptbxl_reference import xresnet_layers
from melp_plugins.ecg.wav2vec2 import MIMIC_LEADS

STAGES = (64, 128, 128, 192)  # channels of the bottlenecks; the stages have four times as many
PRETRAINED = mb.SignalSpec(rate_hz=100.0, seconds=10.0, leads=MIMIC_LEADS, scaling=mb.Scaling.MILLIVOLT)
TESTED = mb.SignalSpec(rate_hz=100.0, seconds=10.0, scaling=mb.Scaling.ZSCORE_RECORD)
SUITE = mb.SignalSpec(rate_hz=500.0, seconds=10.0, scaling=mb.Scaling.MILLIVOLT)


class KED(mb.ECGEncoder):
    """The encoder; tokens are the positions of its feature map, which the label-query decoder reads, a record is their mean."""

    width = 4 * STAGES[-1]
    projected = True
    corpora = ("mimic-iv-ecg",)
    corpora_source = "the paper: 800,000 records of 160,000 patients of one centre; what it is tested on is from elsewhere"

    def __init__(self, spec: mb.SignalSpec = PRETRAINED) -> None:
        super().__init__()
        self.spec = spec
        self.layers = nn.Sequential(*xresnet_layers(len(spec.leads), STAGES, pool_first=True))

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of signal (B, L, T)."""
        tokens = self.layers(signal).transpose(1, 2)  # (B, N, D)
        record = tokens.mean(dim=1)
        return mb.Features(record=record, embedding=record, tokens=tokens)


TEXT = TextTower(
    component="hf",
    options={"pooler": True, "max_tokens": 256, "frozen_layers": 11},
    model="hf:emilyalsentzer/Bio_ClinicalBERT",
    heads="ked",
    head_options={},
    keys=mb.Family(
        name="ked-text",
        anchor="text_encoder.bert_model.embeddings.word_embeddings.weight",
        renames=(
            ("text_encoder.bert_model.*", "text_encoder.body.*"),
            ("text_encoder.mlp_embed.*", "heads.mlp_embed.*"),
            ("model.*", "heads.decoder.*"),
        ),
        tied=(("model.decoder.norm.*", "model.decoder_norm.*"),),
        unused=(
            ("text_encoder.bert_model.embeddings.position_ids", "a table that follows from the configuration"),
            ("text_encoder.logit_scale", "the contrast's temperature; objectives have their own"),
            ("model.logit_scale", "the contrast's temperature; objectives have their own"),
        ),
    ),
)
FAMILY = mb.Family(
    name="ked",
    anchor="5.0.idpath.1.0.weight",
    prefixes=("ecg_model.", ""),
    renames=(("*", "layers.*"),),
    tied=(("{}.{}.convpath.0.*", "{}.{}.convs.*"),),
    parts=("ecg_model", "text_encoder", "model"),
    elsewhere="belongs to the text encoder or the label-query decoder; import it with the text tower to use it",
    files="https://zenodo.org/records/14881564",
    text=TEXT,
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return KED's ECG encoder, fed in three ways."""
    fed: list[tuple[str, Callable[..., mb.ECGEncoder], str]] = [
        ("ked", KED, "as pretrained: 100 Hz, MIMIC-IV-ECG's lead order"),
        ("ked-as-tested", partial(KED, TESTED), "as its authors test it: aVL before aVF, z-scored"),
        ("ked-500hz", partial(KED, SUITE), "as a public suite feeds it: 500 Hz"),
    ]
    paper = "https://doi.org/10.1016/j.xcrm.2024.101875"
    return [
        mb.Entry(name, build, f"KED's ECG encoder, xresnet1d101, {how}", paper, "none stated", FAMILY)
        for name, build, how in fed
    ]
