"""Weight decay by groups; the learning rate in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from melp_bench.pretrain.optimisation import make_optimizer, schedule
from melp_bench.recipe import Optimiser


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv1d(2, 3, 2), nn.LayerNorm(3), nn.Linear(3, 3)
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def test_matrices_are_decayed_and_vectors_scalars_and_frozen_weights_are_not() -> None:
    module = Module()
    optimizer = make_optimizer(module, Optimiser(weight_decay=0.2, betas=(0.8, 0.9)))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: decay.get(id(p)) for name, p in module.named_parameters()}
    assert {n for n, d in found.items() if d == 0.2} == {"conv.weight", "linear.weight"}
    assert {n for n, d in found.items() if d is None} == {"frozen.weight", "frozen.bias"}
    assert all(found[n] == 0.0 for n in ("conv.bias", "norm.weight", "norm.bias", "linear.bias", "log_scale"))
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.9)}


def test_without_gradient_only_decayed_weights_shrink_and_by_the_stated_factor() -> None:
    module = Module()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = make_optimizer(module, Optimiser(weight_decay=0.2, learning_rate=0.1))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in module.named_parameters():
        factor = 1 - 0.1 * 0.2 if name in ("conv.weight", "linear.weight") else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def rates(steps: int, **settings: float) -> list[float]:
    optimiser = Optimiser(learning_rate=2.0, **settings)  # type: ignore[arg-type]
    optimizer = make_optimizer(Module(), optimiser)
    rule = schedule(optimizer, optimiser, steps)
    found = []
    for step in range(steps):
        rule.step_update(step)
        (rate,) = {group["lr"] for group in optimizer.param_groups}
        found.append(rate)
    return found


@pytest.mark.parametrize(("steps", "fraction"), [(50, 0.1), (800, 0.1), (40, 0.25), (30, 0.0)])
def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine(steps: int, fraction: float) -> None:
    found, warmup, low = rates(steps, warmup_fraction=fraction, final_fraction=0.01), round(steps * fraction), 0.02
    for step, rate in enumerate(found):
        if step < warmup:
            expected = low + (2.0 - low) * step / warmup
        else:
            expected = low + (2.0 - low) * (1 + math.cos(math.pi * (step - warmup) / (steps - 1 - warmup))) / 2
        assert rate == pytest.approx(expected), step
    assert max(found) == found[warmup] == pytest.approx(2.0)
    assert found[-1] == pytest.approx(low)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_have_a_rate(steps: int) -> None:
    assert all(0 < rate <= 2.0 for rate in rates(steps, warmup_fraction=0.5, final_fraction=0.1))


def test_the_rate_of_a_step_does_not_depend_on_the_steps_before() -> None:
    optimiser = Optimiser()
    one, two = (make_optimizer(Module(), optimiser) for _ in range(2))
    through, directly = schedule(one, optimiser, 100), schedule(two, optimiser, 100)
    for step in range(78):
        through.step_update(step)
    directly.step_update(77)
    assert one.param_groups[0]["lr"] == two.param_groups[0]["lr"]
