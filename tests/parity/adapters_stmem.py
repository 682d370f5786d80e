"""ST-MEM's encoders and its masked pretraining model against their fixtures."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import torch
from adapters import Adapter
from fill import rng
from filling import Fixture
from torch import Tensor

import melp_bench as mb
from melp_bench.masking import in_rows
from melp_bench.published.fitting import fit
from melp_plugins.ecg import st_mem
from melp_plugins.objectives.mae import MaskedAutoencoder

Tensors = dict[str, Tensor]
ENTRIES = {entry.name: entry for entry in st_mem.melp_ecg_encoders()}
SIZE_OF_WIDTH = {width: size for size, (width, _) in st_mem.SIZES.items()}


def encoder_of(weights: Tensors, width: int) -> st_mem.StMem:
    entry = ENTRIES[f"st-mem-{SIZE_OF_WIDTH[width]}"]
    assert entry.published is not None
    model = fit(weights, entry.published, entry.build).module
    assert isinstance(model, st_mem.StMem)
    return model.eval()


def encoder_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    model, ecg = encoder_of(weights, fixture.config["width"]), inputs["ecg"]
    states = model.transform(model.embed(ecg))
    seen: Tensors = {}
    handle = model.get_submodule("block0").register_forward_hook(lambda _, __, out: seen.update(dbg_block0=out))
    features = model(ecg)
    handle.remove()
    return {
        "encoding": features.embedding,
        "tokens": states.flatten(1, 2),
        "dbg_patch": model.to_patch_embedding(ecg),
        **seen,
    }


def encoded(model: st_mem.StMem, ecg: Tensor, mask: Tensor) -> Tensor:
    """Return the states (B, L, P + 2, D) of what is not masked (B, L, P)."""
    return in_rows(model.contextual(model.normed(model.local(ecg)), mask.flatten(1), None), model)


def pretraining_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    config, ecg = fixture.config, inputs["ecg"]
    width, decoder_width = config["embed_dim"], config["decoder_embed_dim"]
    model = encoder_of(weights, width)
    sizes = mb.Sizes(shared=256, embedding=width, ecg_tokens=width)
    objective = MaskedAutoencoder(sizes, decoder_width=decoder_width, decoder_heads=config["decoder_num_heads"]).eval()
    objective.attach(SimpleNamespace(encoder=model))
    fresh = {
        "sincos_encoder": st_mem.StMem(SIZE_OF_WIDTH[width]).pos_embedding,
        "sincos_decoder": objective.decoder.decoder_pos_embed.clone(),
    }
    objective.decoder.load_state_dict(
        {key: tensor for key, tensor in weights.items() if not key.startswith(("encoder.", "to_patch_"))}
    )
    noise = rng(fixture.salt, "noise").random(size=(len(ecg), ecg.shape[1], model.patches), dtype=np.float32)
    order = torch.from_numpy(noise).argsort(dim=-1)  # as published: visible patches by their noise
    mask = objective.choose(torch.from_numpy(noise))
    states = encoded(model, ecg, mask)
    predicted = objective.decoder(states, mask)
    loss = objective.loss(ecg, predicted, mask)
    objective.normalise_patches = False
    kept = torch.nn.functional.pad(order[..., : objective.kept] + 1, (1, 1))
    kept[..., -1] = model.patches + 1
    latent = states.gather(2, kept[..., None].expand(-1, -1, -1, model.width))
    return {
        "loss": loss,
        "loss_no_norm": objective.loss(ecg, predicted, mask),
        "mask": mask.to(torch.float32),
        "ids_restore": order.argsort(dim=-1),
        "pred": predicted,
        "latent": latent.flatten(1, 2),
        "latent_unmasked": encoded(model, ecg, torch.zeros_like(mask)).flatten(1, 2),
        **fresh,
    }


ADAPTERS = [Adapter(r"^stmem_.*encoder", encoder_outputs), Adapter(r"^stmem_pretrain", pretraining_outputs)]
