"""From a recipe's name to what a record costs in a step of its last stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from melp_bench.components import TextSource
from melp_bench.errors import UserError
from melp_bench.plugins import Catalogue
from melp_bench.pretrain.step import Batch, Step
from melp_bench.recipe import Recipe
from melp_bench.runs.building import build_model, build_step
from melp_bench.throughput.scaling import StepCost
from melp_bench.throughput.step_cost import count_step

SENTENCES = (
    "sinus rhythm with normal axis", "left ventricular hypertrophy by voltage", "nonspecific st and t wave changes",
    "prolonged qt interval", "compared with the previous tracing no change", "abnormal ecg",
)  # fmt: skip
"""Reports of the count are made of these, as many as there is room for."""
CLASSES = 5
SAMPLE_BYTES = 2


def cost_of(recipe: Recipe, catalogue: Catalogue, *, words: int, native_rate_hz: float = 500.0) -> StepCost:
    """Return what a record costs in a step of the recipe's last stage, with a report of about so many `words`.

    Bytes read are those of the encoder's leads and seconds as a store of `native_rate_hz` keeps them, two to a sample.

    Raises:
        UserError: the recipe trains nothing.
    """
    if not recipe.stages:
        raise UserError(f"recipe {recipe.name!r} trains nothing; name one that has objectives")
    report = report_of(words)
    model = build_model(recipe, catalogue, TextSource(reports=[report]), seed=0)
    stage = recipe.stages[-1]
    step = build_step(stage, catalogue, model, CLASSES)
    give_back = model.freeze(stage.untrained(recipe.present()))
    spec = model.encoder.spec
    read = len(spec.leads) * spec.seconds * native_rate_hz * SAMPLE_BYTES
    cost = count_step(step, lambda number: made_batch(step, [report] * number), read_bytes=read)
    give_back()
    return cost


def report_of(words: int) -> str:
    """Return a report of at least so many words, and no sentence more."""
    said: list[str] = []
    while sum(len(sentence.split()) for sentence in said) < max(words, 1):
        said.append(SENTENCES[len(said) % len(SENTENCES)])
    return ". ".join(said) + "."


def made_batch(step: Step, reports: Sequence[str], device: torch.device | str = "cpu") -> Batch:
    """Return a batch of records of noise, one for each of `reports` and each of another patient."""
    spec, text, number = step.model.encoder.spec, step.model.text_encoder, len(reports)
    generator = torch.Generator().manual_seed(number)
    signal = torch.randn(number, len(spec.leads), spec.samples, generator=generator).to(device)
    read = text.tokenize(reports).to(device) if text is not None and step.reads_reports else None
    labels = torch.eye(CLASSES, device=device).repeat(math.ceil(number / CLASSES), 1)[:number]
    parts = dict.fromkeys(step.parts, signal)
    return Batch(signal if step.reads_signals else None, read, labels, torch.arange(number, device=device), parts)
