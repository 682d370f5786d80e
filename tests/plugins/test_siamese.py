"""SimSiam, MoCo v3 and DINO: their papers' losses record by record, and what stops gradients and collapse."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.plugins import discover
from melp_bench.testing import check_component
from melp_bench.testing.small import SIZES, SmallEncoder
from melp_plugins.objectives.dino import DINO, MultiCropDINO, dino, distillation_loss
from melp_plugins.objectives.moco_v3 import contrast, moco_v3
from melp_plugins.objectives.self_distillation import MomentumObjective, perceptron
from melp_plugins.objectives.simsiam import negative_cosine, simsiam


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def views(count: int = 6) -> tuple[Tensor, Tensor]:
    one, two = random(2, count, 12, 200)
    return one, one + 0.3 * two


def attached(build: Any, **options: Any) -> tuple[Any, SmallEncoder]:
    """Return a momentum objective on a small encoder, whose target is not the encoder any more."""
    torch.manual_seed(0)
    objective, encoder = build(SIZES, **options), SmallEncoder()
    objective.attach(SimpleNamespace(encoder=encoder))
    with torch.no_grad():
        for target, _ in objective.followed:
            for parameter in target.parameters():
                parameter.mul_(1.1)
    return objective.double(), encoder.double()


def unit(x: Tensor) -> Tensor:
    return x / x.norm()


def test_a_projector_has_batch_norm_and_relu_between_its_layers_and_a_plain_norm_after_them() -> None:
    kinds = [type(layer).__name__ for layer in perceptron(4, 8, 8, 2, norm_last=True)]
    block = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds == [*block, *block, "Linear", "BatchNorm1d"]
    last = perceptron(4, 2, norm_last=True)
    assert [type(layer).__name__ for layer in last] == ["Linear", "BatchNorm1d"]
    assert not list(last[1].parameters())


# -------------------------------------------------------------------------------------------------------------- SimSiam


def test_simsiam_equals_the_papers_loss_record_by_record() -> None:
    torch.manual_seed(0)
    objective = simsiam(SIZES, projected=12, bottleneck=6).double()
    a, b = random(2, 5, SIZES.embedding)
    got = objective(mb.Features(a, a), mb.Features(b, b))
    with torch.no_grad():
        z = [objective.project(x) for x in (a, b)]
        p = [objective.predict(x) for x in z]
    total = -sum(float(unit(p[0][k]) @ unit(z[1][k]) + unit(p[1][k]) @ unit(z[0][k])) for k in range(5)) / 2 / 5
    assert got.item() == pytest.approx(total, rel=1e-9)


def test_no_gradient_flows_through_what_is_predicted() -> None:
    p, z = random(2, 4, 3).requires_grad_()
    p.retain_grad(), z.retain_grad()
    negative_cosine(p, z).backward()
    assert p.grad is not None
    assert z.grad is None
    assert negative_cosine(p, 2 * p).item() == pytest.approx(-1)
    assert negative_cosine(p, -p).item() == pytest.approx(1)


# -------------------------------------------------------------------------------------------------------------- MoCo v3


@torch.no_grad()
def test_moco_v3_equals_the_papers_loss_record_by_record() -> None:
    objective, encoder = attached(moco_v3, hidden=10, projected=6, temperature=0.3)
    one, two = views()
    got = objective(**objective.local(encoder(one), encoder(two), one, two))
    total = 0.0
    for mine, other in ((one, two), (two, one)):
        q = objective.predict(objective.project(encoder(mine).embedding))
        k = objective.target_project(objective.target_encoder(other).embedding)
        for row in range(len(one)):
            to = [math.exp(float(unit(q[row]) @ unit(k[column])) / 0.3) for column in range(len(one))]
            total -= 2 * 0.3 * math.log(to[row] / sum(to)) / len(one)
    assert got.item() == pytest.approx(total, rel=1e-9)


def test_a_collapsed_batch_costs_2_tau_ln_of_its_size_and_a_resolved_one_nothing() -> None:
    assert contrast(torch.ones(8, 3), torch.ones(8, 3), temperature=0.5).item() == pytest.approx(math.log(8), rel=1e-6)
    assert contrast(torch.eye(8), 5 * torch.eye(8), temperature=0.01).item() == pytest.approx(0, abs=1e-6)


# ----------------------------------------------------------------------------------------------------------------- DINO


def slow_dino(student: list[Tensor], teacher: list[Tensor], centre: Tensor, sharp: float, soft: float) -> float:
    """Return the paper's sum over pairs of different views, as a mean, one record and prototype at a time."""
    terms = []
    for i, t in enumerate(teacher):
        for j, s in enumerate(student):
            if i == j:
                continue
            for row in range(len(t)):
                q = [math.exp(float(x - c) / sharp) for x, c in zip(t[row], centre, strict=True)]
                p = [math.exp(float(x) / soft) for x in s[row]]
                terms.append(-sum(a / sum(q) * math.log(b / sum(p)) for a, b in zip(q, p, strict=True)))
    return sum(terms) / len(terms)


def test_distillation_equals_the_papers_cross_entropy_in_loops() -> None:
    student, teacher, centre = list(random(4, 3, 5)), list(random(2, 3, 5, seed=2)), random(5, seed=3)
    got = distillation_loss(student, teacher, centre, temperature=0.3, teacher_temperature=0.2)
    assert float(got) == pytest.approx(slow_dino(student, teacher, centre, 0.2, 0.3), rel=1e-9)


@pytest.mark.parametrize("multi_crop", [False, True])
@torch.no_grad()
def test_dino_is_that_of_student_and_teacher_on_all_its_views(multi_crop: bool) -> None:
    objective, encoder = attached(dino, hidden=10, bottleneck=6, prototypes=7, multi_crop=multi_crop)
    objective.eval()
    one, two = views()
    signals = [one, two, *([0.5 * one, 0.4 * two, 0.3 * one, 0.2 * two] if multi_crop else [])]
    made = [encoder(signal) for signal in signals]
    crops = {f"quarter{place}": view for place, view in enumerate(made[2:], start=1)}
    got = objective(**objective.local(made[0], made[1], one, two, **crops))
    student = [objective.project(view.embedding) for view in made]
    teacher = [objective.target_project(objective.target_encoder(signal).embedding) for signal in (one, two)]
    assert float(got) == pytest.approx(slow_dino(student, teacher, objective.centre, 0.04, 0.1), rel=1e-7)
    assert isinstance(objective, MultiCropDINO) is multi_crop


def test_quarters_are_the_records_four_quarters() -> None:
    made = dino(SIZES, multi_crop=True).views()
    assert [made[f"quarter{place}"][0].part for place in (1, 2, 3, 4)] == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]


def test_the_centre_follows_the_teacher_in_training_alone() -> None:
    objective, encoder = attached(dino, hidden=10, bottleneck=6, prototypes=7, centre_momentum=0.75)
    one, two = views()
    given = objective.local(encoder(one), encoder(two), one, two)
    mean = torch.cat(objective.projected_targets(given["target1"], given["target2"])).mean(dim=0)
    objective.eval()(**given)
    assert not objective.centre.any()
    objective.train()
    for step in (1, 2, 3):
        objective(**given)
        torch.testing.assert_close(objective.centre, (1 - 0.75**step) * mean)  # the closed form of so many steps from 0


def test_uniform_prototypes_cost_the_logarithm_of_their_number_and_logits_are_cosines() -> None:
    even = [torch.zeros(3, 9)] * 2
    assert distillation_loss(even, even, torch.zeros(9), temperature=0.1, teacher_temperature=0.04).item() == pytest.approx(
        math.log(9)
    )
    head = dino(SIZES, hidden=8, bottleneck=6, prototypes=7).project
    assert head(100 * torch.randn(20, SIZES.embedding)).abs().max() <= 1 + 1e-6


def test_the_teacher_is_what_dino_keeps() -> None:
    objective, _ = attached(dino, hidden=8, bottleneck=6, prototypes=7)
    assert objective.exported() is objective.target_encoder
    assert objective.keep == "last"


# ---------------------------------------------------------------------------------------------------- what they share


@pytest.mark.parametrize(
    ("build", "options"),
    [(moco_v3, {"hidden": 8, "projected": 6}), (dino, {"hidden": 8, "bottleneck": 6, "prototypes": 7})],
    ids=["moco-v3", "dino"],
)
def test_a_target_gets_no_gradient_and_follows_by_the_average_alone(build: Any, options: dict[str, int]) -> None:
    objective, encoder = attached(build, momentum=0.9, **options)
    assert isinstance(objective, MomentumObjective)
    one, two = views()
    objective(**objective.local(encoder(one), encoder(two), one, two)).backward()
    target = [p for name, p in objective.named_parameters() if name.startswith("target_")]
    assert len(target) == len(list(encoder.parameters())) + len(list(objective.project.parameters()))
    assert all(p.grad is None and not p.requires_grad for p in target)
    slow, fast = objective.target_encoder.widen.weight, encoder.widen.weight
    began = slow.detach().clone()
    for _ in range(5):
        objective.after_step(0.0)
    torch.testing.assert_close(slow, fast + 0.9**5 * (began - fast))


@pytest.mark.parametrize(
    ("build", "options", "told"),
    [
        (simsiam, {"bottleneck": 0}, "'simsiam' with projected 512, bottleneck 0"),
        (moco_v3, {"momentum": 1.5}, "'moco-v3' with hidden 512, projected 128, layers 2, momentum 1.5"),
        (moco_v3, {"temperature": 0.0}, "'temperature' of 'moco-v3' is 0.0"),
        (dino, {"prototypes": 0}, "'dino' with hidden 512, bottleneck 128, prototypes 0"),
        (dino, {"teacher_temperature": 0.0}, "'dino' with centre_momentum 0.9, temperatures 0.1 and 0.0"),
    ],
)
def test_an_option_out_of_its_range_is_told(build: Any, options: dict[str, float], told: str) -> None:
    with pytest.raises(mb.UserError, match=told):
        build(SIZES, **options)


def test_dino_without_crops_reads_two_views() -> None:
    assert set(dino(SIZES).views()) == {"view1", "view2"}
    assert type(dino(SIZES)) is DINO


def test_dino_with_crops_keeps_the_promises_of_an_objective() -> None:
    verdicts = check_component("objective", discover().objectives["dino"], options={"multi_crop": True, "prototypes": 64})
    assert {v.property: v.detail for v in verdicts if v.ok is False} == {}
