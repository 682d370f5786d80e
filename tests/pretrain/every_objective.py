"""Every objective of the catalogue on a tiny model: built without dropout, with views that are the same on every rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from tiny_method import WIDTH, Text
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.model import Model, widths_of
from melp_bench.plugins import discover
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.views import WHOLE, Views
from melp_bench.testing.objective_subject import called, mean_of, objective_subject
from melp_bench.testing.small import SmallEncoder

SMALL = {"hidden": 16, "projected": 8}
OPTIONS: dict[str, dict[str, object]] = {
    **{name: {"global_batch": True} for name in ("beat", "gloria", "etm")},
    "token": {"layers": 1, "heads": 2},
    "barlow-twins": SMALL,
    "vicreg": SMALL,
    "moco-v3": SMALL,
    "simsiam": {"projected": 16, "bottleneck": 8},
    "dino": {"hidden": 16, "bottleneck": 8, "prototypes": 12, "multi_crop": True},
    "ts-tcc": {"ahead": 2, "width": 8, "layers": 1, "heads": 2},
    "astcl": {"projected": 16, "bottleneck": 8, "past": 8, "ahead": 2},
}
HEADS = {"report-writing": "report-writer"}
"""Heads that an objective trains, where they are not MELP's."""
OF_ONE_ENCODER = ("heartlang-codebook", "heartlang-sentences")
"""They train HeartLang's encoder alone, which the tiny method has not: tests/plugins/test_heartlang_words.py cuts a batch."""
DRAW_AND_COMPARE = ("report-contrast",)
"""They draw for each record, and compare what was drawn over all records: parts and ranks draw otherwise than the whole."""
NAMES = [entry.name for entry in discover().objectives if entry.name not in (*OF_ONE_ENCODER, *DRAW_AND_COMPARE)]
BATCH = 12
"""Divides over two ranks and over three."""


@dataclass(frozen=True)
class Shifted(mb.View):
    """A view that draws nothing, and so is the same on every rank."""

    samples: int

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal.roll(self.samples, -1) * (1 + 0.1 * self.samples)


def same_on_every_rank(objective: mb.Objective) -> Views:
    """Return the objective's views with that in place of what each rank would draw for itself; halves stay halves."""
    cuts = {name: [view for view in made if view.part != WHOLE] for name, made in objective.views().items()}
    return {name: parts or [Shifted(index)] for index, (name, parts) in enumerate(cuts.items())}


class GuessingText(Text):
    """The tiny text encoder, with what guessing hidden words asks of it."""

    mask_id = 1

    def both_ways(self, batch: mb.TextBatch) -> Tensor:
        words: Tensor = self.table(batch.ids)  # (B, N, D)
        real = batch.mask.to(words.dtype).unsqueeze(-1)
        return words + (words * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True)

    def word_table(self) -> Tensor:
        return self.table.weight

    def guessing_head(self) -> Mapping[str, Tensor]:
        return {}


def step_of(*names: str, ema: float = 0.0) -> Step:
    """Return a step with objectives of the catalogue by name, nothing of it with dropout; the same at every call."""
    torch.manual_seed(0)
    encoder, text, catalogue = SmallEncoder(), GuessingText(), discover().objectives
    heads = discover().heads[HEADS.get(names[0], "melp")].build(widths_of(encoder, text), width=WIDTH, queries=3)
    model = Model(encoder, text, heads)
    objectives = {name: catalogue[name].build(model.sizes(2), **OPTIONS.get(name, {})) for name in names}
    step = Step(model, objectives, {name: same_on_every_rank(objective) for name, objective in objectives.items()}, ema=ema)
    for part in step.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return step


@cache
def draws(name: str) -> bool:
    """Return whether an objective draws for its own records (masks), which no other rank could share."""
    subject = objective_subject(discover().objectives[name].build)
    values = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        values.add(mean_of(called(subject.objective, subject.inputs())).item())
    return len(values) == 2
