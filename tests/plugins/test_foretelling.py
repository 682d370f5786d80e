"""TS-TCC and ASTCL: their terms in loops over records and tokens, what is foretold, and who works against whom."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.testing.small import SIZES
from melp_plugins.objectives.astcl import ASTCL, astcl, patient_agreement, reversal_at, reversed_gradient
from melp_plugins.objectives.ts_tcc import TSTCC, drawn_time, temporal_contrast, tokens_of, ts_tcc

B, N, D = 5, 9, SIZES.ecg_tokens


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def view(seed: int, real: Tensor | None = None) -> mb.Features:
    embedding = random(B, SIZES.embedding, seed=seed)
    return mb.Features(embedding, embedding, tokens=random(B, N, D, seed=seed + 10), tokens_mask=real)


def unit(x: Tensor) -> Tensor:
    return x / x.norm()


def small_tcc(**options: Any) -> TSTCC:
    torch.manual_seed(0)
    return ts_tcc(SIZES, **({"ahead": 3, "width": 8, "layers": 1, "heads": 2} | options)).double()


def small_astcl(**options: Any) -> ASTCL:
    torch.manual_seed(0)
    return astcl(SIZES, **({"projected": 8, "bottleneck": 6, "past": 8, "ahead": 3} | options)).double()


# --------------------------------------------------------------------------------------------------------------- TS-TCC


def slow_temporal(predicted: Tensor, future: Tensor, real: Tensor) -> float:
    terms = []
    for k in range(predicted.shape[1]):
        there = [n for n in range(len(real)) if real[n, k]]
        for b in there:
            to = {n: math.exp(float(predicted[b, k] @ future[n, k])) for n in there}
            terms.append(-math.log(to[b] / sum(to.values())))
    return sum(terms) / len(terms)


def test_temporal_contrast_equals_the_papers_equation_record_by_record() -> None:
    predicted, future = random(2, B, 3, D)
    whole = torch.ones(B, 3, dtype=torch.bool)
    ragged = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]]).bool()
    for real in (whole, ragged):
        got = temporal_contrast(predicted, future, real)
        assert float(got) == pytest.approx(slow_temporal(predicted, future, real), rel=1e-9)


def test_a_future_that_tells_nothing_costs_the_logarithm_of_the_batch_and_none_at_all_nothing() -> None:
    same = torch.ones(B, 3, D)
    whole = torch.ones(B, 3, dtype=torch.bool)
    assert temporal_contrast(same, same, whole).item() == pytest.approx(math.log(B), rel=1e-6)
    lost = same.clone().requires_grad_()
    none = temporal_contrast(lost, same, ~whole)
    none.backward()
    assert none.item() == 0
    assert lost.grad is not None
    assert not lost.grad.any()


@torch.no_grad()
def test_ts_tcc_is_its_two_temporal_terms_and_its_contextual_one() -> None:
    objective, weak, strong = small_tcc(temporal=2.0, contextual=0.5).eval(), view(1), view(2)
    time, total, contexts = drawn_time(0.25, N, 3), 0.0, []
    assert weak.tokens is not None
    assert strong.tokens is not None
    for own, other in ((weak.tokens, strong.tokens), (strong.tokens, weak.tokens)):
        own, other = (torch.stack([torch.stack([unit(t) for t in record]) for record in z]) for z in (own, other))
        whole = torch.ones(B, time + 1, dtype=torch.bool)
        context = objective.summarise(own[:, : time + 1], whole)
        predicted = torch.stack([objective.predict(context)[:, k * D : (k + 1) * D] for k in range(3)], dim=1)
        future = torch.stack([other[:, time + 1 + k] for k in range(3)], dim=1)
        total += 2.0 * slow_temporal(predicted, future, torch.ones(B, 3, dtype=torch.bool))
        contexts.append(objective.project(context))
    z = [unit(x) for x in torch.cat(contexts)]
    for i in range(2 * B):
        to = {j: math.exp(float(z[i] @ z[j]) / 0.2) for j in range(2 * B) if j != i}
        total -= 0.5 * math.log(to[(i + B) % (2 * B)] / sum(to.values())) / (2 * B)
    assert float(objective(weak, strong, 0.25)) == pytest.approx(total, rel=1e-8)


def test_the_context_sees_the_past_alone_and_no_token_that_is_not_there() -> None:
    objective, weak, strong = small_tcc().eval(), view(1), view(2)
    time = drawn_time(0.5, N, 3)
    real = torch.arange(N).expand(B, -1) < torch.tensor([9, 9, 8, time + 1, 9])[:, None]
    assert weak.tokens is not None
    tokens = weak.tokens
    later = torch.where(torch.arange(N)[:, None] > time, 9.0, tokens)
    for changed, mask in ((later, None), (torch.where(real[..., None], tokens, 7.0), real)):
        before, after = (mb.Features(weak.record, weak.record, tokens=t, tokens_mask=mask) for t in (tokens, changed))
        (own, there), (other, _) = tokens_of(before), tokens_of(strong)
        whole = torch.ones(B, N, dtype=torch.bool)
        one = objective.foretold(own, there, other, whole, time, 3)
        two = objective.foretold(*tokens_of(after), other, whole, time, 3)
        torch.testing.assert_close(one, two)


def test_the_time_is_a_function_of_progress_alone_and_takes_every_value() -> None:
    state = torch.random.get_rng_state()
    times = [drawn_time(step / 400, N, 3) for step in range(400)]
    assert times == [drawn_time(step / 400, N, 3) for step in range(400)]
    assert set(times) == set(range(N - 3))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("build", [small_tcc, small_astcl])
def test_an_encoder_without_tokens_is_told(build: Any) -> None:
    bare = mb.Features(random(B, SIZES.embedding), random(B, SIZES.embedding))
    objective = build()
    given = (bare, bare, 0.0) if isinstance(objective, TSTCC) else (bare, bare, torch.arange(B), 0.0)
    with pytest.raises(mb.NotApplicable, match="an encoder that offers tokens"):
        objective(*given)


# ---------------------------------------------------------------------------------------------------------------- ASTCL


def test_patients_agree_by_the_mean_cosine_over_all_pairs_of_one_patient() -> None:
    p, z = random(2, B, 4)
    patients = torch.tensor([3, 1, 3, 2, 1])
    pairs = [(i, k) for i in range(B) for k in range(B) if patients[i] == patients[k]]
    want = -sum(float(unit(p[i]) @ unit(z[k])) for i, k in pairs) / len(pairs)
    assert float(patient_agreement(p, z, patients)) == pytest.approx(want, rel=1e-9)
    assert len(pairs) == 9


@torch.no_grad()
def test_astcl_is_the_sum_of_its_three_terms_in_loops() -> None:
    objective, one, two, patients = small_astcl(adversarial=0.5).eval(), view(1), view(2), torch.arange(B)
    time = drawn_time(0.3, N, 3)
    z = [objective.project(side.embedding) for side in (one, two)]
    p = [objective.predict(x) for x in z]
    total = -sum(float(unit(p[0][k]) @ unit(z[1][k]) + unit(p[1][k]) @ unit(z[0][k])) for k in range(B)) / 2 / B
    for own, other in ((one.tokens, two.tokens), (two.tokens, one.tokens)):
        assert own is not None
        assert other is not None
        for k in range(B):
            past = objective.remember(torch.stack([unit(token) for token in own[k, : time + 1]])[None])[1][0, 0]
            said = objective.foretell(past).view(3, D)
            total -= sum(float(unit(said[s]) @ unit(other[k, time + 1 + s])) for s in range(3)) / 3 / B / 2
    for side, is_enhanced in ((one, True), (two, False)):
        for embedding in side.embedding:
            chance = torch.sigmoid(objective.discriminate(embedding)).item()
            total -= 0.5 * math.log(chance if is_enhanced else 1 - chance) / (2 * B)
    assert float(objective(one, two, patients, 0.3)) == pytest.approx(total, rel=1e-8)


def test_a_reversed_gradient_is_the_value_itself_and_its_gradient_turned_round() -> None:
    x = random(4).requires_grad_()
    seen = reversed_gradient(x, 0.25)
    torch.testing.assert_close(seen, x)
    (3 * seen).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((4,), -0.75, dtype=torch.float64))


def test_the_reversal_rises_from_0_to_nearly_1() -> None:
    assert reversal_at(0.0) == 0
    assert reversal_at(0.1) == pytest.approx(math.tanh(0.5))  # 2 / (1 + exp(-1)) - 1
    assert reversal_at(1.0) == pytest.approx(1, abs=1e-4)


def test_the_discriminator_learns_to_tell_views_apart_and_an_encoder_to_hide_it() -> None:
    objective = small_astcl()
    one, two = (random(B, SIZES.embedding, seed=seed).requires_grad_() for seed in (3, 4))
    loss = objective.distinction(one, two, 1.0)
    loss.backward()
    assert one.grad is not None
    assert two.grad is not None
    with torch.no_grad():
        hidden = objective.distinction(one - 0.5 * one.grad, two - 0.5 * two.grad, 1.0)
        for parameter in objective.discriminate.parameters():
            assert parameter.grad is not None
            parameter -= 0.5 * parameter.grad
        learnt = objective.distinction(one, two, 1.0)
    assert learnt < loss < hidden


@pytest.mark.parametrize(
    ("build", "options", "told"),
    [
        (ts_tcc, {"ahead": 0}, "'ts-tcc' with ahead 0"),
        (ts_tcc, {"width": 10, "heads": 4}, "'ts-tcc' with width 10, heads 4"),
        (ts_tcc, {"contextual": -1.0}, "weights 1.0 and -1.0"),
        (astcl, {"past": 0}, "'astcl' with projected 512, bottleneck 128, past 0"),
        (astcl, {"adversarial": -1.0}, "'adversarial' of 'astcl' is -1.0"),
    ],
)
def test_an_option_out_of_its_range_is_told(build: Any, options: dict[str, float], told: str) -> None:
    with pytest.raises(mb.UserError, match=told):
        build(SIZES, **options)
