"""HeartLang's tokenizer, encoder, vocabulary and classifier against their fixtures."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from adapters import Adapter
from fill import rng
from filling import Fixture
from numpy.typing import NDArray
from torch import Tensor

from melp_bench.published.fitting import fit
from melp_plugins.ecg import heartlang
from melp_plugins.ecg.heartlang_codes import VQHBR, Quantizer
from melp_plugins.ecg.heartlang_former import STECGFormer
from melp_plugins.ecg.heartlang_tokenizer import QRSTokenizer, Sentence

Tensors = dict[str, Tensor]
TOKENIZER_FOLDER = "heartlang_qrs_tokenizer"
RHYTHMS = ("rr0.8", "rr0.42")  # whose sentences the models are given
CODES_ARE_CERTAIN = 1e-5  # the set's own margin
BEAT = ((-0.16, 0.025, 0.12), (-0.02, 0.012, -0.15), (0.0, 0.014, 1.0), (0.025, 0.012, -0.25), (0.28, 0.05, 0.3))


def synthetic(salt: str, name: str) -> NDArray[np.float64]:
    """Return the signal (12, 1000) that the set's README describes."""
    noise, times, period = rng(salt, name), np.arange(1000) / 100, float(name.removeprefix("rr"))
    beats, at = [], 0.4
    while at < 10:
        beats.append(at)
        at += period * (1 + 0.05 * noise.standard_normal())
    amplitude = 0.6 + 0.8 * noise.random(12)
    sign = np.where(noise.random(12) < 0.25, -1, 1)
    sign[0] = 1
    signal = np.zeros((12, 1000))
    for beat in beats:
        for offset, width, height in BEAT:
            wave = np.exp(-0.5 * ((times - beat - offset) / width) ** 2)
            signal += (sign * amplitude * height)[:, None] * wave
    return signal + 0.01 * noise.standard_normal((12, 1000))


def tokenizer_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    names = sorted({name.rpartition("_signal")[0] for name in fixture.outputs if name.endswith("_signal")})
    made: Tensors = {}
    for name in names:
        signal = synthetic(fixture.salt, name)
        tokenizer = QRSTokenizer()
        made[f"{name}_signal"] = torch.from_numpy(signal.astype(np.float32))
        made[f"{name}_qrs_inds"] = torch.from_numpy(tokenizer.peaks(signal))
        made |= words(name, tokenizer, signal)
        for part in {key.rpartition("_")[0] for key in fixture.outputs if key.startswith(f"{name}_leads")}:
            part = re.sub(r"_in$", "", part)
            used = tuple(int(digit) for digit in part.removeprefix(f"{name}_leads"))
            made |= words(part, QRSTokenizer(used_leads=used), signal)
    return made


def words(name: str, tokenizer: QRSTokenizer, signal: NDArray[np.float64]) -> Tensors:
    made = tokenizer.sentence(torch.from_numpy(signal), tokenizer.peaks(signal))
    return {f"{name}_seq": made.words, f"{name}_in_chans": made.leads, f"{name}_in_times": made.seconds}


def sentence_of(fixture: Fixture) -> Sentence:
    """Return the sentences that the models' fixtures are given: the tokenizer's own of the sibling folder's signals."""
    salt = Fixture.read(fixture.folder.parent / TOKENIZER_FOLDER).salt
    made = [list(words(name, QRSTokenizer(), synthetic(salt, name)).values()) for name in RHYTHMS]
    stacked = [torch.stack([row[part] for row in made]) for part in range(3)]
    return Sentence(stacked[0].float(), stacked[1], stacked[2])


def encoder_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    sentence = sentence_of(fixture)
    words, leads, seconds = sentence.words, sentence.leads, sentence.seconds
    features = fit(weights, heartlang.PRETRAINED, heartlang.HeartLang).module.eval().read(sentence)
    naming = STECGFormer(vocabulary=fixture.config["vocab_size"]).eval()
    naming.load_state_dict(weights)
    noise = torch.from_numpy(rng(fixture.salt, "mask").random(words.shape[:2], dtype=np.float32))
    masked = noise.argsort(dim=1).argsort(dim=1) >= words.shape[1] // 2
    embedded = naming.token_embed(words)
    states = naming(words, leads, seconds)
    first = torch.cat([naming.cls_token.expand(len(words), 1, -1), embedded], dim=1) + naming.pos_embed
    first[:, 1:] += naming.spa_embed(leads) + naming.tem_embed(seconds)
    attention, feed_forward = naming.transformer.layers[0].children()
    attended = attention(first)
    assert features.tokens is not None
    return {
        "cls": features.embedding,
        "tokens": torch.cat([features.record[:, None], features.tokens], dim=1),
        "mean_qrs_tokens": states[:, 1:].mean(dim=1),
        "cls_no_embeddings": naming(words)[:, 0],
        "mask": masked,
        "masked_logits": naming.name_masked(words, leads, seconds, masked),
        "dbg_token_embed": embedded,
        "dbg_attn0": attended,
        "dbg_ff0": feed_forward(first + attended),
    }


def classifier_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    model = fit(weights, heartlang.FINETUNED, heartlang.HeartLangClassifier).module.eval()
    return {"logits": model.logits(sentence_of(fixture))}


def vocabulary_outputs(fixture: Fixture, weights: Tensors, inputs: Tensors) -> Mapping[str, Tensor]:
    sentence = sentence_of(fixture)
    model: VQHBR = fit(weights, heartlang.VOCABULARY, heartlang.HeartLangVocabulary).module.eval().vqhbr
    quantizer = model.quantize
    quantized = model.encode(sentence)
    untouched = quantizer.cluster_size.clone()
    assert torch.equal(untouched, weights["quantize.cluster_size"]), "evaluation changed the count of codes"
    published = Quantizer(*quantizer.embedding.weight.shape, count_in_eval=True).eval()
    published.load_state_dict(quantizer.state_dict())
    published(model.before_codes(sentence))
    rebuilt = model.decode(quantized.vectors, sentence)
    want = fixture.expected()
    uncertain = torch.from_numpy(want["margin"] <= CODES_ARE_CERTAIN)
    return {
        "codes": torch.where(uncertain, torch.from_numpy(want["codes"]), quantized.codes),
        "margin": quantized.margins,
        "z": model.before_codes(sentence),
        "quantized": quantized.vectors,
        "emb_loss": quantized.loss,
        "rec": rebuilt,
        "rec_loss": (rebuilt - sentence.words).square().mean(),
        "encoder_features": model.states(sentence),
        "cluster_size_after": published.cluster_size,
    }


ADAPTERS = [
    Adapter(r"^heartlang_qrs_tokenizer", tokenizer_outputs, takes_seconds=False),
    Adapter(r"^heartlang_encoder", encoder_outputs),
    Adapter(r"^heartlang_finetune", classifier_outputs),
    Adapter(r"^heartlang_vqhbr", vocabulary_outputs),
]
