"""The attention probe: it finds what stands in one token, is what a slow loop says, and does not read padding."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import Context, TaskRecords
from melp_bench.measure import measure
from melp_bench.metrics import Metric, weighted_auroc
from melp_bench.model import Model
from melp_bench.results import Interval
from melp_plugins.evaluations.attention_probe import AttentionFitting, AttentiveProbe, PooledTokens, fit, token_moments
from melp_plugins.evaluations.linear_probe import LinearProbe

Make = Callable[..., Any]
TOKENS, WIDTH = 12, 8
AUROC = (Metric("auroc", "macro AUROC", weighted_auroc),)
LEAST: dict[str, Any] = {"seeds": (0,), "heads": 2, "learning_rate": 0.03, "epochs": 20}


class Split(mb.ECGEncoder):
    """An encoder whose tokens are the pieces of its signal, and whose embedding is their mean."""

    projected = True

    def __init__(self, crops: mb.Crops | None = None) -> None:
        super().__init__()
        self.spec = mb.SignalSpec(rate_hz=float(TOKENS * WIDTH), seconds=1.0, leads=("I",), crops=crops)
        self.width = WIDTH

    def forward(self, signal: Tensor) -> mb.Features:
        tokens = signal[:, 0].reshape(len(signal), TOKENS, WIDTH)
        mean = tokens.mean(dim=1)
        return mb.Features(record=mean, embedding=mean, tokens=tokens)


def one_token_matters(make_task: Make, records: int = 400) -> tuple[Any, Tensor]:
    """Return a task whose classes stand in one token, at a place of its own in each record, marked by its first channel.

    Every other token says something of a class too, which is true of none: their mean is far louder.
    """
    made = make_task(records=records, classes=("a", "b"))
    generator = np.random.default_rng(1)
    tokens = generator.standard_normal((records, TOKENS, WIDTH))
    tokens[..., 0] = 0.1 * generator.standard_normal((records, TOKENS))
    place = generator.integers(TOKENS, size=records)
    tokens[np.arange(records), place, 0] = 4.0
    tokens[np.arange(records), place, 1:3] = 3.0 * (made.task.labels - 0.5)
    return made, torch.tensor(tokens, dtype=torch.float32)


def splitting(made: Any, tokens: Tensor, folder: Path, encoder: mb.ECGEncoder | None = None) -> Context:
    signals = made.change(tokens.flatten(1))
    given: dict[str, Any] = {"features": folder, "identity": "split"}
    return Context("split", lambda: Model(encoder or Split()), {"s": signals}, lambda name: made.task, **given)


def test_what_stands_in_one_token_is_found_there_and_lost_in_the_mean(make_task: Make, tmp_path: Path) -> None:
    made, tokens = one_token_matters(make_task)
    context = splitting(made, tokens, tmp_path)
    values = {}
    linear = LinearProbe(fractions=(1.0,), seeds=(0,), epochs=20)
    for name, evaluation in (("attention", AttentiveProbe(**LEAST)), ("linear", linear)):
        (row,) = evaluation.expand(["s/x"])
        with context.guarding(name):
            values[name] = measure(evaluation.run(context, row), AUROC, Interval(resamples=5)).scores["auroc"].value
    assert values["attention"] > 0.97
    assert values["linear"] < values["attention"] - 0.08


def test_pooling_is_what_a_slow_loop_says() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, mask = torch.randn(5, 7, 6, generator=generator), torch.arange(7) < torch.tensor([[7], [3], [1], [5], [6]])
    mean, scale = token_moments(tokens, mask)
    probe = PooledTokens(mean, scale, heads=2, classes=3)
    with torch.no_grad():
        for weight in probe.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
        found = probe(tokens, mask)
        for n in range(5):
            x = [(tokens[n, m] - mean) * scale for m in range(7) if mask[n, m]]
            pools = []
            for query in probe.queries:
                powers = [math.exp(float(query @ token) / math.sqrt(6)) for token in x]
                pools.append(sum(p * token for p, token in zip(powers, x, strict=True)) / sum(powers))
            torch.testing.assert_close(found[n], torch.cat(pools) @ probe.weight + probe.bias, rtol=1e-4, atol=1e-4)


def test_padding_counts_nowhere(make_task: Make) -> None:
    made, tokens = one_token_matters(make_task, records=120)
    mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
    padded = torch.cat([tokens, torch.full((120, 3, WIDTH), 1e4)], dim=1)
    longer = torch.cat([mask, torch.zeros(120, 3, dtype=torch.bool)], dim=1)
    fitting, (part,) = AttentionFitting(epochs=2), made.task.parts
    one, two = (fit(t, m, made.task, part, 0, fitting).logits(t, m, part.test) for t, m in ((tokens, mask), (padded, longer)))
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_test_records_and_their_labels_never_reach_the_fit(make_task: Make) -> None:
    made, tokens = one_token_matters(make_task, records=120)
    task: TaskRecords = made.task
    (part,) = task.parts
    labels, other = task.labels.copy(), tokens.clone()
    labels[part.test], other[part.test] = ~labels[part.test], 100.0
    mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
    one = fit(tokens, mask, task, part, 0, AttentionFitting(epochs=2))
    two = fit(other, mask, replace(task, labels=labels), part, 0, AttentionFitting(epochs=2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    orders = [fit(tokens, mask, task, part, seed, AttentionFitting(epochs=2, batch_size=32)) for seed in (0, 1)]
    assert not torch.equal(orders[0].weight, orders[1].weight)


def test_heads_part(make_task: Make) -> None:
    made, tokens = one_token_matters(make_task, records=120)
    mask, (part,) = torch.ones(tokens.shape[:2], dtype=torch.bool), made.task.parts
    probe = fit(tokens, mask, made.task, part, 0, AttentionFitting(heads=2, epochs=3))
    assert not torch.allclose(probe.queries[0], probe.queries[1], atol=0.05)


class Mute(Split):
    """An encoder that offers no tokens."""

    def forward(self, signal: Tensor) -> mb.Features:
        return replace(super().forward(signal), tokens=None)


def test_a_model_without_tokens_or_by_crops_is_not_applicable(make_task: Make, tmp_path: Path) -> None:
    made, tokens = one_token_matters(make_task, records=40)
    (row,) = AttentiveProbe().expand(["s/x"])
    for encoder, told in ((Mute(), "needs tokens, which the model does not offer"), (Split(mb.Crops()), "by crops")):
        context = splitting(made, tokens, tmp_path, encoder)
        with pytest.raises(NotApplicable, match=told):
            AttentiveProbe().run(context, row)
    with pytest.raises(UserError, match="heads = 0, epochs = 40"):
        AttentiveProbe(heads=0)
