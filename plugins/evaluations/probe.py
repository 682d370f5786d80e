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
    deviation = wide.std(dim=0, correction=0)
    varies = deviation > 1e-6 * wide.abs().amax(dim=0)
    return wide.mean(dim=0), torch.where(varies, 1 / deviation.where(varies, torch.ones_like(deviation)), 0.0)


class _Batch:
    """Problems that step together. Weights are (M, P, C); AdamW works entry by entry, so the problems never mix."""

    def __init__(self, features: Tensor, target: Tensor, problems: list[ProbeProblem], fitting: Fitting) -> None:
        self.features, self.target, self.problems, self.fitting = features, target, problems, fitting
        self.parts = {problem.part: problem for problem in problems}
        moments = {part: standardise(features[problem.train]) for part, problem in self.parts.items()}
        self.mean = torch.stack([moments[p.part][0] for p in problems])[:, None].float()  # (M, 1, P)
        self.scale = torch.stack([moments[p.part][1] for p in problems])[:, None].float()
        size = (len(problems), features.shape[1], target.shape[1])
        self.weight = features.new_zeros(size)  # (M, P, C)
        self.bias = features.new_zeros((size[0], 1, size[2]))
        self.validation = {  # part -> its standardised validation features, and its members
            part: (self._standard(problem.validation, self._rows(part)[0]), self._rows(part))
            for part, problem in self.parts.items()
        }

    def fit(self) -> list[Probe]:
        """Return the best epoch of each problem."""
        fitting = self.fitting
        generators = [np.random.default_rng([problem.seed, problem.part]) for problem in self.problems]
        optimizer = torch.optim.AdamW([self.weight, self.bias], lr=fitting.learning_rate, weight_decay=fitting.weight_decay)
        count = len(self.problems)
        best, chosen, stale = np.full(count, -np.inf), np.zeros(count, dtype=int), np.zeros(count, dtype=int)
        kept = self.weight.clone(), self.bias.clone()
        for epoch in range(fitting.epochs):
            optimizer.param_groups[0]["lr"] = _cosine(fitting, epoch)
            self._epoch(optimizer, generators)
            quality = self._quality()
            better = (stale < fitting.patience) & (quality > best)
            best[better], chosen[better] = quality[better], epoch + 1
            stale = np.where(better, 0, stale + 1)
            rows = torch.from_numpy(np.flatnonzero(better))
            kept[0][rows], kept[1][rows] = self.weight[rows], self.bias[rows]
            if (stale >= fitting.patience).all():
                break
        return [
            Probe(kept[0][m], kept[1][m, 0], self.mean[m, 0], self.scale[m, 0], int(chosen[m]), float(best[m]))
            for m in range(count)
        ]

    def _epoch(self, optimizer: torch.optim.Optimizer, generators: list[np.random.Generator]) -> None:
        size = self.fitting.batch_size
        orders = [_order(g, p.labelled, size) for g, p in zip(generators, self.problems, strict=True)]
        width = max(order.shape[1] for order in orders)
        padded = [np.pad(order, ((0, 0), (0, width - order.shape[1])), constant_values=-1) for order in orders]
        steps = torch.from_numpy(np.stack(padded, axis=1)).to(self.features.device)  # (steps, M, n)
        for index in steps:
            real = index >= 0  # (M, n)
            record = index.clamp_min(0)
            x = (self.features[record] - self.mean) * self.scale  # (M, n, P)
            logits = torch.baddbmm(self.bias, x, self.weight)  # (M, n, C)
            share = real / (real.sum(dim=1, keepdim=True) * logits.shape[2])  # the loss is a mean over records and classes
            slope = (torch.sigmoid(logits) - self.target[record]) * share[..., None]  # d loss / d logits
            self.weight.grad = x.transpose(1, 2) @ slope
            self.bias.grad = slope.sum(dim=1, keepdim=True)
            optimizer.step()

    def _quality(self) -> NDArray[np.float64]:
        """Return what each problem is chosen by, shape (M,)."""
        quality = np.empty(len(self.problems))
        for part, (x, rows) in self.validation.items():
            logits = torch.baddbmm(self.bias[rows], x.expand(len(rows), -1, -1), self.weight[rows])  # (m, n, C)
            target = self.target[self.parts[part].validation]  # (n, C)
            columns = logits.permute(1, 0, 2).flatten(1).cpu().numpy()  # (n, m * C)
            area = auroc(columns, np.tile(target.cpu().numpy(), (1, len(rows)))).reshape(len(rows), -1)
            known = ~np.isnan(area[0])
            if known.any():
                quality[rows] = area[:, known].mean(axis=1)
            else:
                loss = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
                quality[rows] = -loss.mean(dim=(1, 2)).cpu().numpy()
        return quality

    def _standard(self, positions: Positions, row: int) -> Tensor:
        return (self.features[positions] - self.mean[row]) * self.scale[row]

    def _rows(self, part: int) -> list[int]:
        return [m for m, problem in enumerate(self.problems) if problem.part == part]


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
