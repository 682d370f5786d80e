"""MELP's, ECG-FM's and D-BETA's ECG encoders, and MELP's caption decoder, against their fixtures."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from adapters import Adapter
from filling import Fixture
from torch import Tensor, nn

from melp_bench.published.fitting import fit
from melp_plugins.ecg import d_beta, ecg_fm, melp
from melp_plugins.ecg.wav2vec2 import Wav2Vec2, mean_of_nonzero, padded_tokens
from melp_plugins.text import melp_decoder

Tensors = dict[str, Tensor]
PADDED_FROM = 1900  # the fixtures' own: sample 1 is padded from here on


def melp_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    model = fit(weights, melp.FAMILY, melp.MELPEncoder).module.eval()
    backbone, ecg = model.ecg_encoder, inputs["ecg"]
    features, tokens = model(ecg), backbone(ecg)
    return {
        "ext_ecg_emb": features.embedding,
        "ext_ecg_emb_normalized": F.normalize(features.embedding, dim=-1),
        "proj_ecg_emb": features.record,
        "proj_ecg_emb_normalized": F.normalize(features.record, dim=-1),
        "beat_emb": features.segments,
        "caption_tokens": features.tokens,
        "encoder_x": tokens,
        **depths(backbone, ecg),
    }


def depths(backbone: Wav2Vec2, ecg: Tensor) -> Mapping[str, Tensor]:
    """Return what lies inside the backbone, under the fixtures' names."""
    conv = backbone.feature_extractor(ecg)
    local = backbone.local_features(ecg)
    projected = backbone.post_extract_proj(local)
    x = backbone.encoder.layer_norm(backbone.positioned(local))
    blocks = []
    for layer in backbone.encoder.layers:
        x = layer(x)
        blocks.append(x)
    return {
        "dbg_conv_layer0": backbone.feature_extractor.conv_layers[0](ecg),
        "dbg_conv_out": conv,
        "dbg_conv": conv,
        "dbg_post_proj": projected,
        "dbg_conv_pos": backbone.conv_pos(projected),
        "unmasked_features": local,
        **{f"dbg_block{index}": block for index, block in enumerate(blocks)},
    }


def padding_of(ecg: Tensor) -> tuple[Tensor, Tensor]:
    """Return the padded input and its mask."""
    padding = torch.zeros(len(ecg), ecg.shape[-1], dtype=torch.bool)
    padding[1, PADDED_FROM:] = True
    return ecg.masked_fill(padding[:, None], 0.0), padding


def ecg_fm_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    backbone = fit(weights, ecg_fm.ECG_FM, ecg_fm.ECGFM).module.eval().backbone
    x, long = backbone(inputs["ecg"]), backbone(inputs["ecg_long"])
    padded_input, padding = padding_of(inputs["ecg"])
    padded = backbone(padded_input, padding)
    return {
        "x": x,
        "x_mean": mean_of_nonzero(x),
        "x_long": long,
        "x_long_mean": mean_of_nonzero(long),
        "padded_token_mask": padded_tokens(padding),
        "x_padded": padded,
        "x_padded_mean": mean_of_nonzero(padded),
        **depths(backbone, inputs["ecg"]),
    }


def classifier_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    model = fit(weights, ecg_fm.CLASSIFIER, ecg_fm.ECGFMClassifier).module.eval()
    features, last = model(inputs["ecg"]), len(model.backbone.encoder.layers) - 1
    before_last = depths(model.backbone, inputs["ecg"])[f"dbg_block{last - 1}"]
    return {
        "logits": model.logits(inputs["ecg"]),
        "encoder_out": features.tokens,
        "emb": features.embedding,
        "logits_padded": model.logits(*padding_of(inputs["ecg"])),
        "saliency_last": model.backbone.encoder.layers[last].self_attn.weights(before_last),
    }


def d_beta_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    model = fit(weights, d_beta.FAMILY, d_beta.DBeta).module.eval()
    seen: Tensors = {}

    def keep(module: nn.Module, given: object, output: Tensor) -> None:
        seen["dbg_block0"] = output

    handle = model.ecg_encoder.encoder.layers[0].register_forward_hook(keep)
    local = model.ecg_encoder.local_features(inputs["ecg"])
    encoded = model.encode(local)
    handle.remove()
    return {
        "ecg_features": model(inputs["ecg"]).embedding,
        "encoder_out": encoded,
        "dbg_embeddings": model.ecg_encoder.positioned(local),
        **seen,
    }


def decoder_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    model = fit(weights, melp_decoder.FAMILY, melp_decoder.MELPDecoder).module.eval()
    words, record = inputs["token_embs"], inputs["image_embs"]
    logits, states = model(words, record), model.states(words, record)
    block = model.resblocks[0](words)
    return {
        "logits": logits,
        "logits_last_position": logits[:, -1],
        "ln_final": states,
        "dbg_resblock0": block,
        "dbg_cross0": model.cross_attn[0](block, record),
        "logits_prefix20": model(words[:, :20], record),
    }


ADAPTERS = [
    Adapter("melp_ecgfm", melp_outputs),
    Adapter("ecgfm_wav2vec2_cmsc", ecg_fm_outputs),
    Adapter("ecgfm_classifier", classifier_outputs),
    Adapter("dbeta_ecg", d_beta_outputs),
    Adapter("melp_text_decoder", decoder_outputs),
]
