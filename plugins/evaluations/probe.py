"""The linear probe itself: many small logistic regressions on frozen features, fitted as one batched problem.

The rule, the same for every model:

- Features are standardised per channel by the mean and deviation over the *whole* training part, labelled or not. No label
  enters, and the models' arbitrary feature scales neither help nor hinder a fixed learning rate. A channel that varies by
  no more than rounding (deviation below 1e-6 of its largest magnitude) is set to zero.
- One linear layer, started at zero: the problem is convex, and a random start would only add noise to small subsets.
- Binary cross-entropy on logits, mean over records and classes; AdamW; the learning rate falls by a cosine per epoch.
- An epoch is the fewest whole passes over the subset that make at least 10 steps, in a new order each pass. Without this,
  1 % of the labels would be one step per epoch, and patience would end the fit before it began.
- After each epoch the macro AUROC on validation is taken, over the classes that have both answers there (where none has,
  minus the validation loss). The best epoch is kept, the earliest of equals; `patience` epochs without a better one end it.

The order of the batches comes from (seed, part) alone, so that a fit does not depend on what is fitted beside it.

Shapes: N records, M problems, P channels, C classes, n records of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from melp_bench.metrics.ranking import auroc
from melp_bench.splits import Positions

MIN_STEPS = 10  # optimiser steps per epoch


@dataclass(frozen=True)
class Fitting:
    """How probes are fitted: AdamW on batches, and when it ends."""

    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    batch_size: int = 128
    epochs: int = 100
    patience: int = 5  # epochs without a better validation AUROC


USUAL = Fitting()


@dataclass(frozen=True)
class ProbeProblem:
    """One probe to fit: `labelled` records of the training part `train`, chosen on `validation`."""

    part: int  # which part of the split; problems of one part share train and validation
    seed: int
    train: Positions
    labelled: Positions
    validation: Positions


@dataclass(frozen=True)
class Probe:
    """A fitted probe."""

    weight: Tensor  # (P, C), on standardised features
    bias: Tensor  # (C,)
    mean: Tensor  # (P,)
    scale: Tensor  # (P,)
    epoch: int  # the epoch that was kept, from 1
    quality: float  # what it was chosen by: validation macro AUROC, or minus the validation loss

    def logits(self, features: Tensor) -> NDArray[np.float32]:
        """Return the logits of `features` (N, P), shape (N, C)."""
        standard = (features.float() - self.mean) * self.scale
        return np.asarray((standard @ self.weight + self.bias).cpu().numpy(), dtype=np.float32)


def fit(features: Tensor, labels: NDArray[np.bool_], problems: Sequence[ProbeProblem], fitting: Fitting) -> list[Probe]:
    """Return a probe per problem, from `features` (N, P) and `labels` (N, C).

    Problems with equally many steps per epoch (all seeds of a cell, and most often all folds) are fitted together.
    """
    together: dict[int, list[int]] = {}
    for i, problem in enumerate(problems):
        together.setdefault(_steps(len(problem.labelled), fitting.batch_size), []).append(i)
    probes: dict[int, Probe] = {}
    target = torch.from_numpy(labels.astype(np.float32)).to(features.device)
    for members in together.values():
        batch = _Batch(features.float(), target, [problems[i] for i in members], fitting)
        probes.update(zip(members, batch.fit(), strict=True))
    return [probes[i] for i in range(len(problems))]


def standardise(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and inverse deviation of each channel of `features` (n, P), in float64; 0 for channels that do not vary."""
    wide = features.double()
    mean = wide.mean(dim=0)
    deviation = (wide - mean).square_().mean(dim=0).sqrt()  # `std` itself takes four times as long on a CPU
    varies = deviation > 1e-6 * features.abs().amax(dim=0)
    return mean, torch.where(varies, 1 / deviation.where(varies, torch.ones_like(deviation)), 0.0)


class ProbeAdamW:
    """AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101) of one tensor, of whose rows some can be left out.

    It makes torch's steps, with its defaults, in a fraction of the time that torch's optimiser takes for so few weights.
    """

    def __init__(self, weight: Tensor, weight_decay: float) -> None:
        self.weight, self.weight_decay, self.steps = weight, weight_decay, 0
        self.first, self.second = torch.zeros_like(weight), torch.zeros_like(weight)

    def step(self, gradient: Tensor, rate: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        """Move the weights."""
        self.steps += 1
        self.first.lerp_(gradient, 1 - betas[0])
        self.second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
        size = self.second.sqrt().div_(math.sqrt(1 - betas[1] ** self.steps)).add_(eps)
        self.weight.mul_(1 - rate * self.weight_decay)
        self.weight.addcdiv_(self.first, size, value=-rate / (1 - betas[0] ** self.steps))

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the problems."""
        self.weight, self.first, self.second = self.weight[rows], self.first[rows], self.second[rows]


class _Batch:
    """Problems that step together. Their weights are one tensor (M, C, P + 1), the last channel of which is the bias.

    AdamW works entry by entry, so the problems never mix; one that is at its end is left out of the steps that follow. Channels
    lie last: with few classes, a product that has them last takes up to five times as long on a CPU.
    """

    def __init__(self, features: Tensor, target: Tensor, problems: list[ProbeProblem], fitting: Fitting) -> None:
        self.target, self.problems, self.fitting = target, problems, fitting
        self.parts = {problem.part: problem for problem in problems}
        moments = {part: standardise(features[problem.train]) for part, problem in self.parts.items()}
        self.mean = {part: mean.float() for part, (mean, _) in moments.items()}  # (P,)
        self.scale = {part: scale.float() for part, (_, scale) in moments.items()}
        ones = features.new_ones(len(features), 1)
        if len(self.parts) == 1:  # standardised once; parts that differ are so in every step, which takes less memory
            (part,) = self.parts
            features = (features - self.mean[part]) * self.scale[part]
        self.features = torch.cat([features, ones], dim=1)  # (N, P + 1)
        self.validation = {part: self._standard(problem.validation, part) for part, problem in self.parts.items()}

    def fit(self) -> list[Probe]:
        """Return the best epoch of each problem."""
        fitting, count = self.fitting, len(self.problems)
        generators = [np.random.default_rng([problem.seed, problem.part]) for problem in self.problems]
        weight = self.features.new_zeros(count, self.target.shape[1], self.features.shape[1])  # (M, C, P + 1)
        state, running = ProbeAdamW(weight, fitting.weight_decay), np.arange(count)
        best, chosen, stale = np.full(count, -np.inf), np.zeros(count, dtype=int), np.zeros(count, dtype=int)
        kept = weight.clone()
        for epoch in range(fitting.epochs):
            self._epoch(state, _cosine(fitting, epoch), running, generators)
            quality = self._quality(state.weight, running)
            better = quality > best[running]
            best[running[better]], chosen[running[better]] = quality[better], epoch + 1
            kept[torch.from_numpy(running[better])] = state.weight[torch.from_numpy(np.flatnonzero(better))]
            stale[running] = np.where(better, 0, stale[running] + 1)
            going = np.flatnonzero(stale[running] < fitting.patience)
            if len(going) == 0:
                break
            if len(going) < len(running):
                running = running[going]
                state.keep(torch.from_numpy(going))
        return [
            Probe(kept[m, :, :-1].T, kept[m, :, -1], self.mean[p.part], self.scale[p.part], int(chosen[m]), float(best[m]))
            for m, p in enumerate(self.problems)
        ]

    def _epoch(self, state: ProbeAdamW, rate: float, running: NDArray[Any], generators: list[np.random.Generator]) -> None:
        size, device = self.fitting.batch_size, self.features.device
        orders = [_order(generators[m], self.problems[m].labelled, size) for m in running]
        width = max(order.shape[1] for order in orders)
        padded = [np.pad(order, ((0, 0), (0, width - order.shape[1])), constant_values=-1) for order in orders]
        steps = torch.from_numpy(np.stack(padded, axis=1)).to(device)  # (steps, M, n)
        real = steps >= 0
        # the loss is a mean over records and classes
        shares = (real / (real.sum(dim=2, keepdim=True) * self.target.shape[1])).unsqueeze(2)  # (steps, M, 1, n)
        parts = [self.problems[m].part for m in running]
        mean, scale = (
            torch.stack([moment[part] for part in parts])[:, None] for moment in (self.mean, self.scale)
        )  # (M, 1, P)
        for index, share in zip(steps.clamp_min(0).flatten(1), shares, strict=True):
            x = self.features.index_select(0, index).view(len(running), width, -1)  # (M, n, P + 1)
            if len(self.parts) > 1:
                x[..., :-1].sub_(mean).mul_(scale)
            target = self.target.index_select(0, index).view(len(running), width, -1)
            logits = torch.bmm(state.weight, x.transpose(1, 2))  # (M, C, n)
            slope = logits.sigmoid_().sub_(target.transpose(1, 2)).mul_(share)  # d loss / d logits
            state.step(torch.bmm(slope, x), rate)

    def _quality(self, weight: Tensor, running: NDArray[Any]) -> NDArray[np.float64]:
        """Return what each running problem is chosen by, shape (M,)."""
        quality = np.empty(len(running))
        for part, x in self.validation.items():
            rows = [row for row, m in enumerate(running) if self.problems[m].part == part]
            if not rows:
                continue
            columns = (weight[rows].flatten(0, 1) @ x.T).T  # (n, m C)
            target = self.target[self.parts[part].validation]  # (n, C)
            area = auroc(columns.cpu().numpy(), np.tile(target.bool().cpu().numpy(), (1, len(rows)))).reshape(len(rows), -1)
            known = ~np.isnan(area[0])
            if known.any():
                quality[rows] = area[:, known].mean(axis=1)
            else:
                loss = F.binary_cross_entropy_with_logits(columns, target.tile(1, len(rows)), reduction="none")
                quality[rows] = -loss.reshape(len(loss), len(rows), -1).mean(dim=(0, 2)).cpu().numpy()
        return quality

    def _standard(self, positions: Positions, part: int) -> Tensor:
        """Return the standardised features of records, (n, P + 1)."""
        x = self.features[positions]
        if len(self.parts) > 1:
            x[:, :-1].sub_(self.mean[part]).mul_(self.scale[part])
        return x


def _cosine(fitting: Fitting, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0."""
    low, high = fitting.final_learning_rate, fitting.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * epoch / fitting.epochs)) / 2


def _passes(num_records: int, batch_size: int) -> int:
    return math.ceil(MIN_STEPS / math.ceil(num_records / batch_size))


def _steps(num_records: int, batch_size: int) -> int:
    return _passes(num_records, batch_size) * math.ceil(num_records / batch_size)


def _order(generator: np.random.Generator, labelled: Positions, batch_size: int) -> NDArray[Any]:
    """Return one epoch's batches of positions, shape (steps, n), short batches padded with -1."""
    width = min(batch_size, len(labelled))
    short = -len(labelled) % width
    passes = [
        np.pad(generator.permutation(labelled), (0, short), constant_values=-1).reshape(-1, width)
        for _ in range(_passes(len(labelled), batch_size))
    ]
    return np.concatenate(passes)
