"""HuBERT-ECG's three sizes against their fixtures."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from adapters import Adapter
from filling import Fixture
from torch import Tensor

from melp_bench.published.fitting import fit
from melp_plugins.ecg.hubert_ecg import FAMILY, HuBERTECG, strung

MASKED = ((5, 25), (40, 70))  # the fixtures' own: tokens from, to, of each sample


def outputs(fixture: Fixture, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Mapping[str, Tensor]:
    fitted, ecg = fit(weights, FAMILY, HuBERTECG), inputs["ecg"]
    model, stand_in = fitted.module.eval(), fitted.aside["masked_spec_embed"]
    backbone, features = model.backbone, model(ecg)
    conv = backbone.feature_extractor(strung(ecg))
    local = model.normed(model.local(ecg))
    projected = backbone.post_extract_proj(local)
    masked = torch.zeros(projected.shape[:2], dtype=torch.bool)
    for row, (start, end) in enumerate(MASKED):
        masked[row, start:end] = True
    x, blocks = backbone.encoder.layer_norm(backbone.positioned(local)), []
    for layer in backbone.encoder.layers:
        x = layer(x)
        blocks.append(x)
    return {
        "embedding": features.embedding,
        "last_hidden_state": features.tokens,
        "codebook_logits": model.codebook_logits(features.tokens)[0],
        "masked_last_hidden_state": model.contextual(local, masked, stand_in),
        "dbg_conv": conv,
        "dbg_projection": projected,
        "dbg_pos_conv": backbone.conv_pos(projected),
        **{f"dbg_block{index}": block for index, block in enumerate(blocks)},
    }


ADAPTERS = [Adapter("hubertecg", outputs)]
