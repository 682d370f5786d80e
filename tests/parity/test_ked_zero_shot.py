"""KED's zero-shot by its own queries on real records, against layers of torch and transformers, with the fixtures' weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wfdb
from adapters_ked import DECODER_PART, TEXT_PART, DecoderPart, TextPart
from filling import Fixture
from parity_folders import folders_with
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

import melp_bench as mb
from melp_bench.evaluations import Context, TaskRecords
from melp_bench.model import Model
from melp_bench.published.fitting import fit
from melp_bench.signal import conform
from melp_bench.splits import cross_validation
from melp_bench.windows import Windows, one_each
from melp_plugins.ecg.ked import FAMILY, KED
from melp_plugins.evaluations.zero_shot import ZeroShot

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
FOLDERS = {folder.name: folder for folder in folders_with("fixture.json")}
NEEDED = ("ked_ecg_xresnet1d101", "ked_tqn", "ked_text_encoder")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ptb-xl/"),
    pytest.mark.skipif(not set(NEEDED) <= FOLDERS.keys(), reason="set MELP_BENCH_PARITY_FM to the folder with KED's fixtures"),
]
CLASSES = {"NORM": ("normal ecg",), "AFIB": ("atrial fibrillation", "afib"), "LBBB": ("left bundle branch block",)}
WORDS = sorted({word for texts in CLASSES.values() for text in texts for word in text.split()})
Weights = dict[str, Tensor]


class Tracings:
    """Real records at 500 Hz, conformed when they are asked for."""

    fingerprint = "real"

    def __init__(self) -> None:
        files = sorted((Path(str(REAL)) / "ptb-xl" / "records500" / "00000").glob("*.hea"))[:4]
        self.signals = torch.from_numpy(np.stack([wfdb.rdrecord(str(file)[:-4]).p_signal.T for file in files])).float()

    def __len__(self) -> int:
        return len(self.signals)

    def batch(self, positions: Any, spec: mb.SignalSpec, device: Any = "cpu") -> Tensor:
        return conform(self.signals[positions], rate_hz=500.0, leads=mb.LEADS, spec=spec)

    def windows(self, positions: Any, spec: mb.SignalSpec, device: Any = "cpu") -> Windows:
        return one_each(self.batch(positions, spec))


@pytest.fixture(scope="module")
def weights() -> dict[str, Weights]:
    return {name: Fixture.read(FOLDERS[name]).weights() for name in NEEDED}


def words() -> Tokenizer:
    """Return a tokenizer of the prompts' words; the fixture has random words, and any will do."""
    tokenizer = Tokenizer(models.WordPiece({word: 1000 + n for n, word in enumerate(["[UNK]", *WORDS])}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = (
        normalizers.BertNormalizer(lowercase=True),
        pre_tokenizers.BertPreTokenizer(),
    )
    return tokenizer


def our_model(weights: dict[str, Weights]) -> Model:
    encoder = fit(weights[NEEDED[0]], FAMILY, KED).module
    text = fit(weights[NEEDED[2]], TEXT_PART, TextPart).module
    decoder = fit(weights[NEEDED[1]], DECODER_PART, DecoderPart).module
    text.heads.decoder = decoder.heads.decoder
    text.text_encoder.tokenizer = words()
    return Model(encoder, text.text_encoder, text.heads)


def slow_names(weights: Weights) -> Tensor:
    """Return the features of the classes' names, (C, D): a prompt at a time, without padding; the mean over paraphrases."""
    body = BertModel(BertConfig(vocab_size=28996)).eval()
    bert = {key.removeprefix("bert_model."): t for key, t in weights.items() if key.startswith("bert_model.")}
    body.load_state_dict(bert, strict=True)
    layers = [nn.Linear(768, 768), nn.GELU(), nn.Linear(768, 768), nn.GELU(), nn.Linear(768, 768)]
    mlp = nn.Sequential(*layers)
    mlp.load_state_dict({key.removeprefix("mlp_embed."): t for key, t in weights.items() if key.startswith("mlp_embed.")})

    def feature(text: str) -> Tensor:
        ids = torch.tensor([[101, *(1001 + WORDS.index(word) for word in text.split()), 102]])
        return mlp(body(input_ids=ids).pooler_output)[0]

    return torch.stack([torch.stack([feature(text) for text in texts]).mean(dim=0) for texts in CLASSES.values()])


def slow_decoder(weights: Weights, tokens: Tensor, names: Tensor) -> Tensor:
    """Return the logits (C, 2) of one record's tokens (N, D), by torch's own decoder layers."""
    norm = [weights["decoder_norm.weight"], weights["decoder_norm.bias"]]
    queries, memory = (F.layer_norm(x[None], (768,), *norm) for x in (names, tokens))
    for index in range(7):
        layer = nn.TransformerDecoderLayer(768, 4, 1024, norm_first=True, batch_first=True).eval()
        mine = f"decoder.layers.{index}."
        layer.load_state_dict({key.removeprefix(mine): t for key, t in weights.items() if key.startswith(mine)}, strict=True)
        queries = layer(queries, memory)
    x = F.layer_norm(queries[0], (768,), *norm)
    hidden = F.gelu(x @ weights["mlp_head.0.weight"].T + weights["mlp_head.0.bias"])
    return hidden @ weights["mlp_head.2.weight"].T + weights["mlp_head.2.bias"]


def test_scores_are_the_probabilities_of_the_published_decoder(weights: dict[str, Weights], tmp_path: Path) -> None:
    model, records = our_model(weights).eval(), Tracings()
    count = len(records)
    task = TaskRecords(
        name="real/three",
        dataset="real",
        classes=tuple(CLASSES),
        labels=np.eye(count, 3, dtype=bool),
        record_ids=np.array([f"r{n}" for n in range(count)]),
        patients=np.array([f"p{n}" for n in range(count)]),
        ages=np.full(count, 60.0),
        sexes=np.full(count, "F"),
        reports=("",) * count,
        prompts=CLASSES,
        parts=cross_validation(np.arange(count) + 1),
        positions=np.arange(count),
    )
    context = Context("ked", lambda: model, {"real": records}, lambda name: task, features=tmp_path, identity="ked")
    (measurement,) = ZeroShot().expand(["real/three"])
    with context.guarding("zero_shot"):
        predictions = ZeroShot().run(context, measurement)
    assert predictions.details["scored_by"] == "the model's own heads"
    with torch.no_grad():
        names = slow_names(weights[NEEDED[2]])
        order = [mb.LEADS.index(lead) for lead in ("I", "II", "III", "aVR", "aVF", "aVL", *mb.LEADS[6:])]
        fed = conform(records.signals, rate_hz=500.0, leads=mb.LEADS, spec=mb.SignalSpec(rate_hz=100.0))[:, order]
        tokens = model.encoder(fed).tokens
        assert tokens is not None
        logits = torch.stack([slow_decoder(weights[NEEDED[1]], one, names) for one in tokens])  # (B, C, 2)
    want = torch.softmax(logits, dim=-1)[..., 1].numpy()
    found = torch.sigmoid(torch.from_numpy(predictions.scores[0])).numpy()
    assert want.std(axis=0).min() > 1e-4  # records differ
    np.testing.assert_allclose(found, want, atol=1e-5)
