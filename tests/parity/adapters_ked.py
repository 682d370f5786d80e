"""KED's ECG encoder, text encoder and label-query decoder against their fixtures.

Each fixture holds one of the parts that the published file nests; the two of the text tower are fitted by the tower's own
templates, cut to the part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import torch
from adapters import Adapter
from filling import Fixture, rng
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import BertConfig

import melp_bench as mb
from melp_bench.published.fitting import fit
from melp_plugins.ecg.ked import FAMILY, KED, SUITE, TEXT
from melp_plugins.heads.ked import ked
from melp_plugins.text.hugging_face import hugging_face

WIDTHS = mb.Widths(ecg_record=768, ecg_tokens=768, ecg_projected=True, ecg_positions=32, text=768)
LENGTH, PADDED_FROM = 24, 15  # the fixture's own tokens
ASSETS = {
    "config.json": BertConfig(vocab_size=28996).to_json_string(use_diff=False),
    "tokenizer.json": Tokenizer(WordLevel({"[PAD]": 0}, unk_token="[PAD]")).to_str(),
    "special_tokens.json": json.dumps({"before": [101], "after": [102], "pad": 0}),
}


def only(part: str) -> mb.Family:
    """Return how a part of the text tower is spelt by itself, from how the tower spells it."""
    keys = TEXT.keys

    def cut(pairs: tuple[tuple[str, str], ...], *, both: bool = False) -> tuple[tuple[str, str], ...]:
        named = [(key.removeprefix(part), of) for key, of in pairs if key.startswith(part)]
        return tuple((key, of.removeprefix(part) if both else of) for key, of in named)

    anchor = {"text_encoder.": keys.anchor.removeprefix(part), "model.": "decoder_norm.weight"}[part]
    pairs = {"renames": cut(keys.renames), "tied": cut(keys.tied, both=True), "unused": cut(keys.unused)}
    return replace(keys, name=f"ked-{part}", anchor=anchor, **pairs)


class TextPart(nn.Module):
    """The text encoder and the heads' perceptron, under the names of a whole model."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = hugging_face(mb.TextSource(assets=ASSETS), model="", pooler=True, max_tokens=256)
        self.heads = ked(WIDTHS, depth=1)
        del self.heads.decoder


class DecoderPart(nn.Module):
    """The heads' decoder, under the names of a whole model."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = ked(WIDTHS)
        del self.heads.mlp_embed


TEXT_PART, DECODER_PART = only("text_encoder."), only("model.")


def encoder_outputs(fixture: Fixture, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Mapping[str, Tensor]:
    model, fast = fit(weights, FAMILY, KED).module.eval(), KED(SUITE).eval()
    fast.load_state_dict(model.state_dict())
    whole, long, odd = model(inputs["ecg"]), fast(inputs["ecg_500hz"]), model(inputs["ecg_odd"])
    x, depths = inputs["ecg"], {}
    for index, layer in enumerate(model.layers):
        x = depths[f"dbg_{index}"] = layer(x)
    return {
        "embedding": whole.embedding,
        "features": whole.tokens.transpose(1, 2),
        "embedding_500hz": long.embedding,
        "features_500hz": long.tokens.transpose(1, 2),
        "features_odd": odd.tokens.transpose(1, 2),
        **depths,
    }


def decoder_outputs(fixture: Fixture, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Mapping[str, Tensor]:
    decoder = fit(weights, DECODER_PART, DecoderPart).module.eval().heads.decoder
    tokens, names = inputs["ecg_features"], inputs["text_features"]
    small, few = inputs["ecg_small"], inputs["text_small"]  # of which the fixture keeps the first layer
    memory, queries = decoder.decoder_norm(small), decoder.decoder_norm(few).expand(len(small), -1, -1)
    return {
        "logits": decoder(tokens, names),
        "logits_small": decoder(small, few),
        "attention": decoder.decoded(tokens, names)[1],
        "dbg_layer0": decoder.decoder.layers[0](queries, memory)[0].transpose(0, 1),
    }


def text_outputs(fixture: Fixture, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Mapping[str, Tensor]:
    model = fit(weights, TEXT_PART, TextPart).module.eval()
    ids = torch.from_numpy(rng(fixture.salt, "input_ids").integers(5, 28996, size=(2, LENGTH)))
    mask = torch.ones(2, LENGTH, dtype=torch.bool)
    ids[:, 0], ids[1, PADDED_FROM:], mask[1, PADDED_FROM:] = 101, 0, False
    features = model.text_encoder(mb.TextBatch(ids, mask, torch.where(mask, 0, -1)))
    return {
        "text_features": model.heads.text(features).record,
        "last_hidden_state": features.tokens,
        "input_ids": ids,
        "attention_mask": mask.long(),
    }


ADAPTERS = [
    Adapter("ked_ecg", encoder_outputs),
    Adapter("ked_tqn", decoder_outputs),
    Adapter("ked_text_encoder", text_outputs),
]
