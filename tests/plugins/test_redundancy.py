"""Barlow Twins and VICReg: both papers' equations in loops over channels and records, and what they must come to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.testing.small import SIZES
from melp_plugins.objectives.barlow_twins import EPSILON, barlow_twins, barlow_twins_loss, cross_correlation
from melp_plugins.objectives.vicreg import covariance, covariance_loss, variance_loss, vicreg, vicreg_loss


def two_views(count: int = 7, channels: int = 4) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    one = torch.randn(count, channels, generator=g, dtype=torch.float64)
    return one, one + 0.5 * torch.randn(count, channels, generator=g, dtype=torch.float64)


def whitened(count: int = 8, channels: int = 4) -> Tensor:
    """Return records whose channels have mean 0 and variance 1 and are uncorrelated: columns of a Hadamard matrix."""
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    return torch.kron(torch.kron(two, two), two)[:count, 1 : channels + 1]


# --------------------------------------------------------------------------------------------------------- Barlow Twins


def test_barlow_twins_equals_the_papers_sums_over_pairs_of_channels() -> None:
    one, two = two_views()
    count, channels = one.shape
    total = 0.0
    for i in range(channels):
        for j in range(channels):
            a, b = one[:, i] - sum(one[:, i]) / count, two[:, j] - sum(two[:, j]) / count
            scale = math.sqrt(float((a * a).sum() / count) + EPSILON) * math.sqrt(float((b * b).sum() / count) + EPSILON)
            entry = sum(float(a[k]) * float(b[k]) for k in range(count)) / count / scale
            total += (1 - entry) ** 2 if i == j else 0.005 * entry**2
    assert float(barlow_twins_loss(one, two, redundancy=0.005)) == pytest.approx(total, rel=1e-9)


def test_a_correlation_of_one_to_one_costs_nothing_and_of_opposites_four_a_channel() -> None:
    z = whitened()
    torch.testing.assert_close(cross_correlation(z, 3 * z + 5), torch.eye(4, dtype=torch.float64), atol=1e-4, rtol=0)
    assert barlow_twins_loss(z, 3 * z + 5, redundancy=1.0).item() == pytest.approx(0, abs=1e-6)
    assert barlow_twins_loss(z, -z, redundancy=1.0).item() == pytest.approx(4 * 4, rel=1e-3)


def test_one_channel_said_four_times_costs_its_redundancy_and_a_collapse_a_unit_a_channel() -> None:
    same = whitened()[:, :1].expand(-1, 4)
    assert barlow_twins_loss(same, same, redundancy=0.25).item() == pytest.approx(0.25 * 12, rel=1e-3)
    collapsed = torch.ones(8, 4, dtype=torch.float64)
    assert barlow_twins_loss(collapsed, collapsed, redundancy=0.25).item() == pytest.approx(4)


# --------------------------------------------------------------------------------------------------------------- VICReg


def test_vicreg_equals_the_papers_three_terms_in_loops() -> None:
    one, two = two_views()
    count, channels = one.shape

    def terms(z: Tensor) -> tuple[float, float]:
        mean = [float(z[:, j].sum()) / count for j in range(channels)]
        cov = [
            [sum((float(r[i]) - mean[i]) * (float(r[j]) - mean[j]) for r in z) / (count - 1) for j in range(channels)]
            for i in range(channels)
        ]
        vary = sum(max(0.0, 1 - math.sqrt(cov[j][j] + 1e-4)) for j in range(channels)) / channels
        return vary, sum(cov[i][j] ** 2 for i in range(channels) for j in range(channels) if i != j) / channels

    near = sum(float((a - b).square().sum()) for a, b in zip(one, two, strict=True)) / count / channels
    (v1, c1), (v2, c2) = terms(0.3 * one), terms(0.3 * two)
    want = 25 * 0.09 * near + 20 * (v1 + v2) + 2 * (c1 + c2)
    got = vicreg_loss(0.3 * one, 0.3 * two, invariance=25.0, variance=20.0, covary=2.0)
    assert float(got) == pytest.approx(want, rel=1e-10)


def test_uncorrelated_channels_of_unit_variance_cost_nothing_and_a_collapse_its_variance() -> None:
    z = whitened() * math.sqrt(7 / 8)  # of unit variance, counted with one degree of freedom less
    assert vicreg_loss(z, z, invariance=25.0, variance=25.0, covary=1.0).item() == pytest.approx(0, abs=1e-12)
    collapsed = torch.ones(8, 4, dtype=torch.float64)
    assert variance_loss(covariance(collapsed)).item() == pytest.approx(1 - 0.01)  # the root of 1e-4
    assert covariance_loss(covariance(collapsed)).item() == 0


def test_one_channel_said_four_times_costs_the_squares_off_the_diagonal() -> None:
    same = whitened()[:, :1].expand(-1, 4) * math.sqrt(7 / 8)
    assert covariance_loss(covariance(same)).item() == pytest.approx(12 / 4)


# ----------------------------------------------------------------------------------------------------------------- both


@pytest.mark.parametrize("build", [barlow_twins, vicreg])
def test_some_steps_bring_two_views_together_and_keep_channels_apart(build: object) -> None:
    torch.manual_seed(0)
    objective = build(SIZES, hidden=16, projected=8)  # type: ignore[operator]
    g = torch.Generator().manual_seed(1)
    x = torch.randn(32, SIZES.embedding, generator=g)
    views = [mb.Features(x, x + 0.1 * torch.randn(x.shape, generator=g)) for _ in range(2)]
    optimiser = torch.optim.Adam(objective.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = objective(*views)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert objective.project(x).std(dim=0).min() > 0.1


@pytest.mark.parametrize(
    ("build", "options", "told"),
    [
        (barlow_twins, {"hidden": 0}, "'barlow-twins' with hidden 0"),
        (barlow_twins, {"redundancy": -1.0}, "'redundancy' of 'barlow-twins' is -1.0"),
        (vicreg, {"projected": 0}, "'vicreg' with hidden 512, projected 0"),
        (vicreg, {"covariance": -1.0}, "'vicreg' with weights"),
    ],
)
def test_an_option_out_of_its_range_is_told(build: object, options: dict[str, float], told: str) -> None:
    with pytest.raises(mb.UserError, match=told):
        build(SIZES, **options)  # type: ignore[operator]
