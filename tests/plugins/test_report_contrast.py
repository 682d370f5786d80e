"""Report contrast: what a draw keeps, that it reads as the report of those sentences, and its loss by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.objectives.report_contrast import drawn_sentences, report_contrast
from melp_plugins.text.bert import bert

REPORTS = [
    "sinus rhythm. normal axis. old infarction. low voltage.",
    "atrial fibrillation.",
    "left axis deviation. left bundle branch block.",
]
SIZES = mb.Sizes(shared=8, embedding=4, ecg_tokens=4, text_tokens=8, vocab=200)


def text(*, causal: bool) -> mb.TextEncoder:
    torch.manual_seed(0)
    return bert(mb.TextSource(REPORTS), layers=1, width=8, heads=2, causal=causal, dropout=0.0).eval()


@pytest.mark.parametrize("causal", [True, False])
def test_a_draw_is_the_tokens_of_the_report_of_its_sentences(causal: bool) -> None:
    encoder = text(causal=causal)
    whole = encoder.tokenize(REPORTS)
    for seed in range(20):
        torch.manual_seed(seed)
        drawn = drawn_sentences(whole, kept=0.5, pad_id=encoder.pad_id)
        said = []
        for report, ids in zip(REPORTS, drawn.ids, strict=True):
            sentences = report.split(". ")
            kept = [s for s in sentences if set(encoder.tokenize([s]).ids[0].tolist()) <= set(ids.tolist())]
            assert kept
            said.append(". ".join(s.rstrip(".") for s in kept) + ".")
        again = encoder.tokenize(said)
        for found, wanted in zip(
            (drawn.ids, drawn.mask, drawn.sentences), (again.ids, again.mask, again.sentences), strict=True
        ):
            assert torch.equal(found, wanted), (seed, said)


def test_a_sentence_is_kept_by_its_chance_and_one_at_least() -> None:
    torch.manual_seed(0)
    ids = torch.arange(10, 14).expand(20_000, 4)
    batch = mb.TextBatch(ids, torch.ones_like(ids).bool(), torch.arange(4).expand(20_000, 4))
    lengths = drawn_sentences(batch, kept=0.3, pad_id=0).mask.sum(dim=1)
    assert lengths.min() == 1
    assert lengths.float().mean() == pytest.approx(4 * 0.3 + 0.7**4, abs=0.02)


class Model(nn.Module):
    """Reads a report as the mean of a table's rows."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(200, 8)

    def text(self, batch: mb.TextBatch) -> mb.Features:
        states = self.table(batch.ids) * batch.mask[..., None]
        mean = states.sum(dim=1) / batch.mask.sum(dim=1, keepdim=True)
        return mb.Features(mean, mean)


def test_the_loss_is_the_cross_entropy_of_each_draw_among_all_others() -> None:
    whole = text(causal=True).tokenize(REPORTS)
    objective, model = report_contrast(SIZES, temperature=0.5), Model()
    objective.attach(model)
    torch.manual_seed(3)
    draws = objective.local(whole)
    loss = objective(**draws)
    vectors = [F.normalize(v, dim=0).detach() for draw in draws.values() for v in draw]
    total, pairs = 0.0, len(REPORTS)
    for i, one in enumerate(vectors):
        others = [math.exp(float(one @ other) / 0.5) for j, other in enumerate(vectors) if j != i]
        total -= math.log(math.exp(float(one @ vectors[(i + pairs) % (2 * pairs)]) / 0.5) / sum(others))
    assert float(loss.detach()) == pytest.approx(total / (2 * pairs), rel=1e-5)
    loss.backward()
    assert model.table.weight.grad is not None
    assert objective.chance(3) == pytest.approx(math.log(5))


@pytest.mark.parametrize("options", [{"kept": 0.0}, {"kept": 1.0}, {"temperature": 0.0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(mb.UserError, match="wanted kept between 0 and 1"):
        report_contrast(SIZES, **options)
    with pytest.raises(mb.UserError, match="needs a text encoder"):
        report_contrast(mb.Sizes(shared=8, embedding=4, ecg_tokens=4))
