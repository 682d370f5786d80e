"""SigLIP and GLoRIA: the papers' sums written pair by pair, closed forms, and what is no word or no token of a record."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.testing.inputs import make_inputs
from melp_bench.testing.small import SIZES
from melp_plugins.objectives.gloria import gloria
from melp_plugins.objectives.siglip import siglip, siglip_loss


def vectors(count: int = 5) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    x, y = (F.normalize(torch.randn(count, 8, generator=g, dtype=torch.float64), dim=-1) for _ in range(2))
    return x, y


def test_siglip_is_the_papers_sum_over_pairs_divided_by_the_records() -> None:
    x, y = vectors()
    scale, bias = 3.0, -1.5
    total = 0.0
    for i in range(5):
        for j in range(5):
            sign = 1 if i == j else -1
            total += math.log(1 / (1 + math.exp(-sign * (scale * float(x[i] @ y[j]) + bias))))
    got = siglip_loss(x, y, torch.tensor(math.log(scale)), torch.tensor(bias))
    assert float(got) == pytest.approx(-total / 5, rel=1e-6)


def test_siglip_of_orthogonal_strangers_has_a_closed_form() -> None:
    x = torch.eye(6, dtype=torch.float64)
    got = siglip_loss(x, x, torch.tensor(math.log(10.0)), torch.tensor(-10.0))
    assert float(got) == pytest.approx(math.log(2) + 5 * math.log1p(math.exp(-10)), rel=1e-6)


def test_siglip_begins_as_the_paper_does_and_learns_scale_and_bias() -> None:
    objective, inputs = siglip(SIZES), make_inputs(("ecg", "text"))
    assert objective.log_scale.exp().item() == pytest.approx(10.0)
    assert objective.bias.item() == -10.0
    objective(**inputs).backward()
    assert objective.log_scale.grad is not None
    assert objective.log_scale.grad.abs() > 1e-4
    assert objective.bias.grad is not None
    assert objective.bias.grad < 0  # pairs cost more than strangers at first: the bias is to rise
    with pytest.raises(mb.UserError, match="wanted a positive number"):
        siglip(SIZES, first_scale=0.0)


def test_siglip_does_not_depend_on_lengths_of_vectors() -> None:
    objective, inputs = siglip(SIZES), make_inputs(("ecg", "text"))
    longer = inputs["ecg"].apply({"record": 7 * inputs["ecg"].record})
    torch.testing.assert_close(objective(longer, inputs["text"]), objective(**inputs))


def slow_gloria(tokens: list[Tensor], words: list[Tensor], *, t1: float, t2: float, t3: float) -> Tensor:
    """Return the loss with a loop per report, record and word, as the definition reads."""
    rows = []
    for report in words:
        row = []
        for record in tokens:
            over_words = torch.stack([(report @ token).softmax(dim=0) for token in record])  # (M, N)
            total = torch.zeros((), dtype=torch.float64)
            for number, word in enumerate(report):
                attention = (t1 * over_words[:, number]).softmax(dim=0)
                attended = sum(a * token for a, token in zip(attention, record, strict=True))
                total = total + (t2 * F.cosine_similarity(word, attended, dim=0)).exp()
            row.append(total.log())
        rows.append(torch.stack(row))
    logits, target = t3 * torch.stack(rows), torch.arange(len(tokens))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def test_gloria_is_a_loop_over_words_and_leaves_padding_out() -> None:
    torch.manual_seed(0)
    objective = gloria(SIZES, temperature1=2.0, temperature2=3.0, temperature3=1.5).double()
    ecg, text = (
        f.apply({n: t.detach().double() for n, t in f.present().items() if t.is_floating_point()})
        for f in make_inputs(("ecg", "text"), pairs=4).values()
    )
    assert ecg.tokens is not None
    assert text.tokens is not None
    tokens = [objective.tokens(row)[keep] for row, keep in zip(ecg.tokens, ecg.tokens_mask, strict=True)]  # type: ignore[arg-type]
    words = [objective.words(row)[keep] for row, keep in zip(text.tokens, text.tokens_mask, strict=True)]  # type: ignore[arg-type]
    torch.testing.assert_close(objective(ecg, text), slow_gloria(tokens, words, t1=2.0, t2=3.0, t3=1.5))


def test_gloria_costs_the_logarithm_of_the_batch_where_records_are_equal_and_reports_too() -> None:
    objective, inputs = gloria(SIZES), make_inputs(("ecg", "text"))
    ecg, text = (f.apply({n: t[:1].expand(8, *t.shape[1:]) for n, t in f.present().items()}) for f in inputs.values())
    assert objective(ecg, text).item() == pytest.approx(math.log(8), rel=1e-5)


def test_gloria_asks_for_words_and_tokens() -> None:
    with pytest.raises(mb.UserError, match="there is no text encoder"):
        gloria(mb.Sizes(shared=4, embedding=4, ecg_tokens=4))
    inputs = make_inputs(("ecg", "text"))
    bare = mb.Features(inputs["ecg"].record, inputs["ecg"].embedding)
    with pytest.raises(mb.UserError, match="the encoders offer none"):
        gloria(SIZES)(bare, inputs["text"])
    assert not gloria(SIZES).needs_global_batch
    assert gloria(SIZES, global_batch=True).needs_global_batch
