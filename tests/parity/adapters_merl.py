"""MERL's encoders against their fixtures."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from adapters import Adapter
from filling import Fixture
from torch import Tensor

from melp_bench.published.fitting import fit
from melp_plugins.ecg import merl

Tensors = dict[str, Tensor]
ENTRIES = {entry.name: entry for entry in merl.melp_ecg_encoders()}


def loaded(weights: Tensors, name: str) -> merl.MerlEncoder:
    """Return the entry's encoder with the published weights."""
    entry = ENTRIES[name]
    assert entry.published is not None
    model = fit(weights, entry.published, entry.build).module
    assert isinstance(model, merl.MerlEncoder)
    return model.eval()


def heads_of(weights: Tensors) -> merl.MerlHeads:
    heads = merl.MerlHeads(weights["linear1.weight"].shape[1], weights["proj_t.0.weight"].shape[1]).eval()
    heads.load_state_dict({key: tensor for key, tensor in weights.items() if key in heads.state_dict()})
    return heads


def outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    name = "merl-" + str(fixture.config["ecg_model"]).replace("_", "-")
    model, heads, ecg = loaded(weights, name), heads_of(weights), inputs["ecg"]
    features = model(ecg)
    first, second = heads(model.uniform_input(ecg))
    text = heads.proj_t(inputs["text_emb"])
    depths = resnet_depths if isinstance(model, merl.MerlResNet) else vit_depths
    return {
        "ext_ecg_emb": features.record,
        "proj_ecg_emb": F.normalize(features.record, dim=-1),
        "ecg_emb1": first,
        "ecg_emb2": second,
        "proj_text": text,
        "proj_text_emb": F.normalize(text, dim=-1),
        **dict.fromkeys(("encoder_pooled", "encoder_out"), features.embedding),
        **depths(model, ecg),
    }


def resnet_depths(model: merl.MerlResNet, ecg: Tensor) -> Tensors:
    encoder = model.ecg_encoder
    stem = encoder.bn1(encoder.conv1(ecg))
    block0 = encoder.get_submodule("layer1.0")(F.relu(stem))
    layer2 = encoder.get_submodule("layer2")(encoder.get_submodule("layer1")(F.relu(stem)))
    feature_map = encoder(ecg)
    narrow = model.downconv(feature_map)
    return {
        "dbg_bn1": stem,
        "dbg_block0": block0,
        "dbg_layer2": layer2,
        "feature_map": feature_map,
        "downconv": narrow,
        "att_map": model.att_pool_head(narrow.transpose(1, 2))[1],
    }


def vit_depths(model: merl.MerlViT, ecg: Tensor) -> Tensors:
    encoder = model.ecg_encoder
    patches = encoder.to_patch_embedding(ecg)
    first = encoder.get_submodule("block0")(patches.transpose(1, 2) + encoder.pos_embedding)
    return {"dbg_patch": patches, "dbg_block0": first, f"dbg_block{encoder.depth - 1}": encoder(ecg)[1]}


ADAPTERS = [Adapter(r"^merl_", outputs)]
