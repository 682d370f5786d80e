"""A method and a corpus small enough to be pretrained in a second."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.model import Model, widths_of
from melp_bench.pretrain.source import PretrainSource
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.views import Views
from melp_bench.recipe import Optimiser
from melp_bench.store import Store, prepare

WIDTH = 8
WORDS = ("normal", "sinus", "rhythm", "block", "left", "right", "axis", "wave", "low", "high", "old", "new")
OPTIMISER = Optimiser(learning_rate=0.01, warmup_fraction=0.2)


class Corpus(mb.Dataset):
    """Noise whose level the reports tell; every other report is three times as long."""

    version, licence, citation, generated = "1", "CC0-1.0", "none", True

    def __init__(self, num_records: int = 60) -> None:
        self.num_records = num_records

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        return {"all": mb.Task("all", {"HIGH": frozenset({"HIGH"}), "ODD": frozenset({"ODD"})}, keep_unlabelled=True)}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        for i in range(self.num_records):
            rng = random.Random(i)
            sentences = [" ".join(rng.choices(WORDS, k=3)) for _ in range(1 + 2 * (i % 2))]
            labels = frozenset(name for name, is_so in (("HIGH", i % 3 == 0), ("ODD", i % 2 == 1)) if is_so)
            yield mb.RecordInfo(
                f"r{i:03d}", f"p{i % 10}-{i // 20}", statements=labels, report=". ".join(sentences) + ".", fold=i % 10 + 1
            )

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        number = int(info.record_id[1:])
        rng = np.random.default_rng(number)
        return mb.Signal(((1 + number % 3) * rng.standard_normal((12, 100))).astype(np.float32), 100.0)


class Encoder(mb.ECGEncoder):
    spec = mb.SignalSpec(rate_hz=50, seconds=1)
    width = WIDTH

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.patch = nn.Conv1d(12, WIDTH, 10, 10)
        self.mix = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH))

    def forward(self, signal: Tensor) -> mb.Features:
        tokens = self.mix(self.patch(signal).transpose(1, 2))  # (B, N, D)
        return mb.Features(tokens.mean(dim=1), tokens.mean(dim=1), tokens=tokens)


class Text(mb.TextEncoder):
    width, vocab_size, pad_id, causal = WIDTH, len(WORDS) + 2, 0, True

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(self.vocab_size, WIDTH)

    def tokenize(self, reports: Sequence[str]) -> mb.TextBatch:
        rows = [[(WORDS.index(w) + 2, s) for s, text in enumerate(r.split(".")) for w in text.split()] for r in reports]
        longest = 1 + max(len(row) for row in rows)
        ids = torch.tensor([[1, *(i for i, _ in row)] + [0] * (longest - 1 - len(row)) for row in rows])
        sentences = torch.tensor([[-1, *(s for _, s in row)] + [-1] * (longest - 1 - len(row)) for row in rows])
        return mb.TextBatch(ids, ids != 0, sentences)

    def forward(self, batch: mb.TextBatch) -> mb.Features:
        states = self.table(batch.ids).cumsum(dim=1) / batch.mask.cumsum(dim=1).unsqueeze(-1)  # (B, N, D)
        last = batch.mask.sum(dim=1) - 1
        rhythm = states[torch.arange(len(states)), last]
        number = int(batch.sentences.max()) + 1
        member = torch.nn.functional.one_hot(batch.sentences + 1, number + 1)[..., 1:].to(states.dtype)  # (B, N, S)
        sizes = member.sum(dim=1)  # (B, S)
        beats = torch.einsum("bns,bnd->bsd", member, states) / sizes.clamp_min(1).unsqueeze(-1)
        return mb.Features(rhythm, rhythm, beats, sizes > 0, states, batch.mask, batch.ids)


def make_store(root: Path, num_records: int = 60) -> Store:
    return prepare(Corpus(num_records), name="corpus", source=None, root=root)


def make_step(
    objectives: Mapping[str, mb.Objective] | None = None,
    *,
    dropout: float = 0.1,
    seed: int = 0,
    views: Mapping[str, Views] | None = None,
    ema: float = 0.0,
) -> Step:
    """Return a step with `objectives`, or with MELP's three; the model is the same for a seed."""
    from melp_bench.plugins import discover

    torch.manual_seed(seed)
    encoder, text, catalogue = Encoder(dropout), Text(), discover().objectives
    model = Model(encoder, text, discover().heads["melp"].build(widths_of(encoder, text), width=WIDTH, queries=3))
    if objectives is None:
        sizes = model.sizes(2)
        options: dict[str, dict[str, object]] = {
            "rhythm": {},
            "beat": {"global_batch": True},
            "token": {"layers": 1, "heads": 2},
        }
        objectives = {name: catalogue[name].build(sizes, **given) for name, given in options.items()}
    return Step(model, objectives, views, ema=ema)


def make_source(store: Store, step: Step) -> PretrainSource:
    return PretrainSource(store, step.model.encoder.spec, step.model.text_encoder, store.labels("all"), step.parts)
