"""BYOL: the paper's loss, a target that only follows, and runs that are killed on the way."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.testing.small import SIZES, SmallEncoder
from melp_plugins.objectives.byol import BYOL, byol, regression_loss
from melp_plugins.objectives.self_distillation import momentum_at


def attached(**options: float) -> tuple[BYOL, SmallEncoder]:
    """Return BYOL on a small encoder, both drawn from a fixed seed."""
    torch.manual_seed(0)
    objective, encoder = byol(SIZES, hidden=16, projected=8, **options), SmallEncoder()  # type: ignore[arg-type]
    objective.attach(SimpleNamespace(encoder=encoder))  # type: ignore[arg-type]
    return objective, encoder


def loss_of(objective: BYOL, encoder: SmallEncoder, one: Tensor, two: Tensor) -> Tensor:
    return objective(**objective.local(encoder(one), encoder(two), one, two))


def views(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 12, 200, generator=generator), torch.randn(count, 12, 200, generator=generator)


def slow_perceptron(net: nn.Sequential, x: Tensor) -> Tensor:
    """Return a projector's output with its batch norm written out."""
    first, norm, _, last = net
    hidden = x @ first.weight.T + first.bias
    mean, variance = hidden.mean(dim=0), hidden.var(dim=0, unbiased=False)
    hidden = (hidden - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias
    return hidden.clamp_min(0) @ last.weight.T + last.bias


def test_the_loss_equals_the_papers_written_record_by_record() -> None:
    objective, encoder = attached()
    objective.double(), encoder.double()
    with torch.no_grad():  # a target that is not the encoder any more
        for parameter in (*objective.target_encoder.parameters(), *objective.target_project.parameters()):
            parameter.mul_(1.1)
    one, two = (view.double() for view in views())
    got = loss_of(objective, encoder, one, two)
    total = torch.zeros((), dtype=torch.float64)
    for mine, other in ((one, two), (two, one)):
        q = slow_perceptron(objective.predict, slow_perceptron(objective.project, encoder(mine).embedding))
        z = slow_perceptron(objective.target_project, objective.target_encoder(other).embedding)
        for row in range(len(one)):
            a, b = q[row] / q[row].norm(), z[row] / z[row].norm()
            total += (a - b).square().sum() / len(one)
    torch.testing.assert_close(got, total)


def test_the_distance_is_0_for_one_direction_4_for_its_opposite_and_2_for_strangers() -> None:
    x = torch.randn(5, 3)
    assert regression_loss(x, 3 * x).item() == pytest.approx(0, abs=1e-6)
    assert regression_loss(x, -x).item() == pytest.approx(4)
    assert regression_loss(torch.tensor([[1.0, 0]]), torch.tensor([[0, 1.0]])).item() == pytest.approx(2)


def test_views_may_be_exchanged() -> None:
    objective, encoder = attached()
    one, two = views()
    torch.testing.assert_close(loss_of(objective, encoder, one, two), loss_of(objective, encoder, two, one))


def test_a_target_gets_no_gradient_and_is_not_in_the_optimiser() -> None:
    objective, encoder = attached()
    loss_of(objective, encoder, *views()).backward()
    target = [(n, p) for n, p in objective.named_parameters() if n.startswith("target_")]
    assert len(target) == len(list(encoder.parameters())) + len(list(objective.project.parameters()))
    assert all(p.grad is None and not p.requires_grad for _, p in target)
    mine = [p for n, p in objective.named_parameters() if not n.startswith("target_")]
    assert all(p.grad is not None and p.grad.any() for p in mine if p.dim() > 1)
    assert all(p.grad is not None for p in encoder.parameters())


def test_the_target_begins_as_the_encoder_and_moves_by_the_average_alone() -> None:
    objective, encoder = attached(momentum=0.9)
    for slow, fast in zip(objective.target_encoder.parameters(), encoder.parameters(), strict=True):
        assert torch.equal(slow, fast)
        assert slow is not fast
    began = [p.detach().clone() for p in encoder.parameters()]
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    for _ in range(5):
        objective.after_step(0.0)
    for slow, start in zip(objective.target_encoder.parameters(), began, strict=True):
        torch.testing.assert_close(slow.detach(), start + 1 - 0.9**5)  # closed form of five steps towards start + 1
    last = [p.detach().clone() for p in objective.target_encoder.parameters()]
    objective.after_step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(last, objective.target_encoder.parameters(), strict=True))


def test_the_momentum_rises_along_a_cosine_from_its_base_to_one() -> None:
    assert momentum_at(0.0, base=0.99) == pytest.approx(0.99)
    assert momentum_at(0.5, base=0.99) == pytest.approx(0.995)
    assert momentum_at(1.0, base=0.99) == pytest.approx(1.0)
    assert momentum_at(0.25, base=0.5) == pytest.approx(1 - 0.25 * (1 + math.sqrt(0.5)))


def test_it_keeps_the_last_weights_of_the_encoder_itself() -> None:
    objective, _ = attached()
    assert objective.keep == "last"
    assert objective.exported() is None


def test_some_steps_bring_two_views_of_a_record_together_and_do_not_collapse() -> None:
    objective, encoder = attached()
    one, noise = views(16)
    parameters = [p for p in (*encoder.parameters(), *objective.parameters()) if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    losses = []
    for step in range(60):
        loss = loss_of(objective, encoder, one, one + 0.1 * noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        objective.after_step(step / 60)
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert encoder(one).embedding.std(dim=0).mean() > 1e-3


@pytest.mark.parametrize("options", [{"hidden": 0}, {"projected": 0}, {"momentum": 1.1}, {"momentum": -0.1}])
def test_an_option_out_of_its_range_is_told(options: dict[str, float]) -> None:
    with pytest.raises(mb.UserError, match="'byol' with hidden"):
        byol(SIZES, **options)  # type: ignore[arg-type]


def test_it_is_one_file_and_one_recipe() -> None:
    root = Path(mb.__file__).parents[1]
    host = [p for p in (root / "melp_bench").rglob("*.py") if "byol" in p.read_text(encoding="utf-8").lower()]
    assert host == []
    named = [p.name for p in (root / "melp_bench" / "recipes").glob("*.toml") if "byol" in p.read_text(encoding="utf-8")]
    assert sorted(named) == ["byol.toml", "merl-2024-byol.toml"]  # and the published baseline
    others = [p for p in (root / "plugins").rglob("*.py") if "byol" in p.read_text(encoding="utf-8").lower()]
    assert [p.name for p in others] == ["byol.py"]
