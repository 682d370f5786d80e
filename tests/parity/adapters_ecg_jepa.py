"""Both models called ECG-JEPA, Kim's with its pretraining loss and Weimann's with its probe, against their fixtures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace

import torch
from adapters import Adapter, watched
from filling import Fixture, filled
from torch import Tensor

import melp_bench as mb
from melp_bench.masking import in_rows
from melp_bench.published.fitting import fit
from melp_bench.registry import Entry
from melp_plugins.ecg import ecg_jepa, ecg_jepa_weimann
from melp_plugins.objectives.jepa import JEPA, jepa

Tensors = dict[str, Tensor]
ENTRIES = {e.name: e for module in (ecg_jepa, ecg_jepa_weimann) for e in module.melp_ecg_encoders()}
SIZE_OF_WIDTH = {width: size for size, (width, _, _) in ecg_jepa_weimann.SIZES.items()}


def encoder_of(entry: Entry[mb.ECGEncoder], weights: Tensors) -> mb.ECGEncoder:
    assert entry.published is not None
    return fit(weights, entry.published, entry.build).module.eval()


# ------------------------------------------------------------------------------------------------------------------- Kim's


def kim_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    model = encoder_of(ENTRIES["ecg-jepa"], weights)
    assert isinstance(model, ecg_jepa.ECGJEPA)
    layers = {"dbg_patch": "W_P", **{f"dbg_block{number}": f"encoder_blocks.blocks.{number}" for number in (0, 5)}}
    features, seen = watched(model, layers, inputs["ecg"])
    masked = torch.zeros(model.patches, dtype=torch.bool)
    for first, last in ((3, 8), (20, 26), (40, 44)):
        masked[first : last + 1] = True
    everywhere = masked.repeat(len(ecg_jepa.LEADS)).expand(len(inputs["ecg"]), -1)
    states = model.contextual(model.local(inputs["ecg"]), everywhere, None)
    return {
        "representation": features.embedding,
        "tokens": features.tokens,
        "representation_leads": model.of_leads(inputs["ecg_leads"], ("II", "V1", "V5")).embedding,
        "masked_tokens": states[~everywhere].unflatten(0, (len(states), -1)),
        "sincos_table": ecg_jepa.ECGJEPA(depth=1).pos_embed,
        **seen,
    }


def objective_of(encoder: mb.ECGEncoder, weights: Tensors, config: Mapping[str, int]) -> tuple[JEPA, Tensor]:
    """Return the objective with published weights, and the predictor's positions as they were drawn."""
    sizes = mb.Sizes(shared=256, embedding=encoder.width, ecg_tokens=encoder.width)
    width, depth, heads = (config[f"predictor_{name}"] for name in ("embed_dim", "depth", "num_heads"))
    objective = jepa(sizes, predictor_width=width, predictor_depth=depth, predictor_heads=heads)
    objective.attach(SimpleNamespace(encoder=encoder))  # type: ignore[arg-type]
    drawn = objective.predictor.pos_embed.clone()
    for part, module in (("target_encoder.", objective.target_encoder), ("predictor.", objective.predictor)):
        module.load_state_dict({k.removeprefix(part): tensor for k, tensor in weights.items() if k.startswith(part)})
    return objective.eval(), drawn


def pretraining_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    encoder, ecg = encoder_of(ENTRIES["ecg-jepa"], weights), inputs["ecg"]
    assert isinstance(encoder, mb.MaskedEncoding)
    objective, drawn = objective_of(encoder, weights, fixture.config)
    mask = torch.from_numpy(fixture.expected()["mask"])
    everywhere = mask.expand(len(ecg), objective.rows, -1)  # (B, R, P)
    states = encoder.contextual(encoder.local(ecg), everywhere.flatten(1), None)
    predicted = objective.predictor(in_rows(states, encoder), everywhere)
    order = mask.int().argsort(stable=True)  # as published: what is seen, then what is masked
    return {
        "loss": objective.loss(ecg, encoder, everywhere),
        "predictions": predicted[:, :, order].flatten(1, 2),
        "target_tokens": objective.target_encoder(ecg).tokens,
        "mask": mask,
        "predictor_sincos": drawn,
    }


# --------------------------------------------------------------------------------------------------------------- Weimann's


def weimann_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    config = fixture.config
    entry = ENTRIES[f"ecg-jepa-weimann-{SIZE_OF_WIDTH[config['dim']]}"]
    model = encoder_of(entry, weights)
    assert isinstance(model, ecg_jepa_weimann.WeimannEncoder)
    blocks = {name: f"blocks.{name.removeprefix('dbg_block')}" for name in fixture.outputs if name.startswith("dbg_block")}
    features, seen = watched(model, {**blocks, "dbg_norm1_register": "blocks.0.norm1"}, inputs["ecg"])
    crop = model(inputs["ecg_crop"])
    return {
        **seen,
        "tokens": features.tokens,
        "mean_patches": features.embedding,
        "register": features.record,
        "crop_register": crop.record,
        "crop_mean_patches": crop.embedding,
        "classifier_logits": probe_of(fixture)(crop.tokens),
        "masked_tokens": masked_tokens(model, inputs["ecg"]),
        "dbg_norm1_register": seen["dbg_norm1_register"][:, 0],
        "dbg_patch": model.embed(model.local(inputs["ecg"])),
        "pos_embed": model.pos_embed,
    }


def masked_tokens(model: ecg_jepa_weimann.WeimannEncoder, ecg: Tensor) -> Tensor:
    """Return states of the patches that the fixture keeps, in its order, the register's first."""
    places = torch.arange(model.pos_embed.shape[1]).roll(37)[:50].expand(len(ecg), -1)
    tokens = model.embed(model.local(ecg))
    return model.states(tokens.gather(1, places[..., None].expand(-1, -1, model.width)), places)


def probe_of(fixture: Fixture) -> ecg_jepa_weimann.AttentionProbe:
    """Return the authors' probe with the fixture's weights."""
    head = json.loads((fixture.folder / "head_state_dict.json").read_text())
    weights = filled(head, [(key, tuple(shape), dtype) for key, shape, dtype in head["state_dict"]])
    classes = weights["attn_pool.cross_attention_block.proj.weight"].shape[0]
    probe = ecg_jepa_weimann.AttentionProbe(fixture.config["dim"], fixture.config["num_heads"], classes)
    probe.load_state_dict({key.removeprefix("attn_pool."): tensor for key, tensor in weights.items()})
    return probe.eval()


ADAPTERS = [
    Adapter(r"^ecgjepa_sehun_encoder", kim_outputs),
    Adapter(r"^ecgjepa_sehun_pretrain", pretraining_outputs),
    Adapter(r"^ecgjepa_kweimann_", weimann_outputs),
]
