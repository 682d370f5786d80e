"""Logistic regressions on frozen features, each to its minimum: all classes and strengths of a probe as one batched L-BFGS.

Paper: On the limited memory BFGS method for large scale optimization, Liu and Nocedal 1989, https://doi.org/10.1007/BF01589116.
A regression minimises, as scikit-learn's does, the sum over records of its cross-entropy plus |w|^2 / (2 strength); the bias is
not penalised. Features are standardised as in `probe`. The strength is one for all classes, by the macro AUROC on validation
(where no class has both answers there, by minus the loss); of equals the smallest.

Shapes: n records, P channels, C classes, S strengths, K = S C regressions, H steps that are remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from melp_bench.metrics.ranking import auroc
from melp_plugins.evaluations.probe import Probe, ProbeProblem, standardise

REMEMBERED = 10
SUFFICIENT = 1e-4  # the share of a step's promise that it must keep (Armijo)
HALVINGS = 30


@dataclass(frozen=True)
class LogisticFitting:
    """How logistic regressions are fitted, and among which strengths one is chosen."""

    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    tolerance: float = 1e-5  # on the largest entry of the gradient of the mean loss
    iterations: int = 500


def fit_regressions(
    features: Tensor, labels: NDArray[np.bool_], problems: Sequence[ProbeProblem], regression: LogisticFitting
) -> list[Probe]:
    """Return a probe per problem, from `features` (N, P) and `labels` (N, C); its `epoch` is its strength's number, from 1."""
    target = torch.from_numpy(labels.astype(np.float64)).to(features.device)
    return [_fit_one(features, target, problem, regression) for problem in problems]


def _fit_one(features: Tensor, target: Tensor, problem: ProbeProblem, regression: LogisticFitting) -> Probe:
    mean, scale = standardise(features[problem.train])
    x, beside = ((features[rows].double() - mean) * scale for rows in (problem.labelled, problem.validation))
    strengths = torch.tensor(regression.strengths, dtype=x.dtype, device=x.device)
    weights = minimised(x, target[problem.labelled], strengths, regression.tolerance, regression.iterations)  # (S, P + 1, C)
    qualities = [_quality(beside @ one[:-1] + one[-1], target[problem.validation]) for one in weights]
    best = max(range(len(qualities)), key=lambda s: (qualities[s], -regression.strengths[s]))
    chosen = weights[best].float()
    return Probe(chosen[:-1], chosen[-1], mean.float(), scale.float(), best + 1, qualities[best])


def _quality(logits: Tensor, target: Tensor) -> float:
    area = auroc(logits.cpu().numpy(), target.cpu().numpy())
    known = ~np.isnan(area)
    return float(area[known].mean()) if known.any() else -float(F.binary_cross_entropy_with_logits(logits, target))


def minimised(x: Tensor, target: Tensor, strengths: Tensor, tolerance: float, iterations: int) -> Tensor:
    """Return weights (S, P + 1, C), bias last, of each class of `target` (n, C) at each of `strengths` (S,) on `x` (n, P)."""
    count, classes = len(x), target.shape[1]
    wide = torch.cat([x, x.new_ones(count, 1)], dim=1)  # (n, P + 1)
    answers = target.to(x.dtype).repeat(1, len(strengths))  # (n, K), all classes of the first strength first
    penalty = 1 / (count * strengths.repeat_interleave(classes))  # (K,)
    free = torch.ones(wide.shape[1], 1, dtype=x.dtype, device=x.device)
    free[-1] = 0  # the bias

    def loss(logits: Tensor, weight: Tensor) -> Tensor:
        """Return the mean loss of each regression, (K,)."""
        fit = (F.softplus(logits) - answers * logits).mean(dim=0)
        return fit + penalty * (free * weight.square()).sum(dim=0) / 2

    def slope(logits: Tensor, weight: Tensor) -> Tensor:
        return wide.T @ (torch.sigmoid(logits) - answers) / count + penalty * free * weight

    weight = x.new_zeros(wide.shape[1], answers.shape[1])  # (P + 1, K)
    logits, history = wide @ weight, _History()
    value, gradient = loss(logits, weight), slope(logits, weight)
    for _ in range(iterations):
        going = gradient.abs().amax(dim=0) > tolerance  # (K,)
        if not bool(going.any()):
            break
        step = torch.where(going, -history.times(gradient), 0.0)
        promise = (gradient * step).sum(dim=0)
        step = torch.where(going & (promise >= 0), -gradient, step)
        promise = (gradient * step).sum(dim=0)
        if not history:  # the first step has no curvature to go by
            step, promise = (part / gradient.norm(dim=0).clamp_min(1.0) for part in (step, promise))
        moved = wide @ step
        length = torch.ones_like(value)
        for _ in range(HALVINGS):  # logits are linear in the length: no product is needed
            found = loss(logits + length * moved, weight + length * step)
            short = found <= value + SUFFICIENT * length * promise
            if bool(short.all()):
                break
            length = torch.where(short, length, length / 2)
        weight, logits, value = weight + length * step, logits + length * moved, found
        before, gradient = gradient, slope(logits, weight)
        history.add(length * step, gradient - before)
    return weight.view(len(weight), len(strengths), classes).transpose(0, 1)


class _History:
    """The last steps of each regression and how they changed its gradient, each (P + 1, K): what stands for its curvature."""

    def __init__(self) -> None:
        self.steps: list[tuple[Tensor, Tensor, Tensor]] = []

    def __bool__(self) -> bool:
        return bool(self.steps)

    def add(self, step: Tensor, change: Tensor) -> None:
        """Remember a step; one that tells no curvature counts for nothing."""
        curvature = (step * change).sum(dim=0)  # (K,)
        tells = curvature > 1e-14 * change.square().sum(dim=0).clamp_min(1e-300)
        inverse = torch.where(tells, 1 / curvature.where(tells, torch.ones_like(curvature)), 0.0)
        self.steps = [*self.steps, (step, change, inverse)][-REMEMBERED:]

    def times(self, gradient: Tensor) -> Tensor:
        """Return the inverse curvature times `gradient` (P + 1, K), by the recursion of two loops."""
        found, shares = gradient, []
        for step, change, inverse in reversed(self.steps):
            share = inverse * (step * found).sum(dim=0)
            found = found - share * change
            shares.append(share)
        if self.steps:
            step, change, inverse = self.steps[-1]
            size = 1 / (inverse * change.square().sum(dim=0)).clamp_min(1e-300)
            found = found * torch.where(inverse > 0, size, 1.0)
        for (step, change, inverse), share in zip(self.steps, reversed(shares), strict=True):
            found = found + (share - inverse * (change * found).sum(dim=0)) * step
        return found
