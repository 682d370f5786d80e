"""Attention probe: a learned query pools an encoder's tokens, under a linear layer; the encoder is frozen.

Where a linear probe reads what the encoder makes of a whole record, this one learns where in it to look: each head has a
query, its weights over the tokens are a softmax of query times key, and the pooled values of all heads are what the linear
layer reads (Bardes et al. 2024, Revisiting Feature Prediction for Learning Visual Representations from Video,
arXiv:2404.08471, whose "attentive probe" has one cross-attention layer). Here keys and values are the tokens themselves,
standardised per channel by the training part: P weights of a head's query, P x C of the linear layer under it, and no more.
An encoder that offers no tokens is not applicable, as is one that reads a record by crops.

Fitting is that of the linear probe where it can be: binary cross-entropy, AdamW, a cosine per epoch, the best epoch by the
macro AUROC on validation, the earliest of equals. Queries start small, each along channels of its own: the first pooling is
nearly the mean over tokens, and heads can part.

Shapes: N records, n of a batch, M tokens, P token channels, H heads, C classes, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.metrics import auroc
from melp_bench.splits import Positions, SplitPart
from melp_plugins.evaluations.pooling import pooled, require_parts
from melp_plugins.evaluations.probing import require_seeds

CHUNK = 256  # records that are scored at once


@dataclass(frozen=True)
class AttentionFitting:
    """How an attention probe is fitted."""

    heads: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 128
    epochs: int = 40
    patience: int = 10  # epochs without a better validation AUROC


USUAL = AttentionFitting()


class AttentiveProbe(mb.Evaluation):
    """One row per task; its score is the mean over the seeds, which draw the order of the batches."""

    version = 1
    label = "attention probe"
    metrics = ("auroc", "auprc")

    def __init__(
        self,
        *,
        heads: int = USUAL.heads,
        seeds: tuple[int, ...] = (0, 1, 2),
        learning_rate: float = USUAL.learning_rate,
        weight_decay: float = USUAL.weight_decay,
        batch_size: int = USUAL.batch_size,
        epochs: int = USUAL.epochs,
        patience: int = USUAL.patience,
    ) -> None:
        """Check the options.

        Raises:
            UserError: a number of heads, epochs or records is not positive, or there is no seed.
        """
        if min(heads, epochs, batch_size, patience) < 1:
            raise mb.UserError(
                f"evaluation 'attention_probe' has heads = {heads}, epochs = {epochs}, batch_size = {batch_size} and "
                f"patience = {patience}; wanted all of them positive"
            )
        self.seeds = require_seeds(seeds, "attention_probe")
        self.fitting = AttentionFitting(heads, learning_rate, weight_decay, batch_size, epochs, patience)

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task."""
        options = {**asdict(self.fitting), "seeds": list(self.seeds)}
        return [mb.Measurement(task, (task,), options=options) for task in tasks]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the logits of attention probes, one set per seed.

        Raises:
            NotApplicable: the model offers no tokens, or a part of the split is empty.
        """
        task = context.task(measurement.task)
        require_parts(task)
        if context.model.encoder.spec.crops is not None:
            raise mb.NotApplicable("an encoder that reads records by crops offers no tokens of a whole record")
        features = context.features(task)
        tokens, mask = features.tokens, features.tokens_mask  # (N, M, P), (N, M)
        probes = [[fit(tokens, mask, task, part, s, self.fitting) for s in self.seeds] for part in task.parts]

        def score(part: int, positions: Positions) -> NDArray[np.float32]:
            return np.stack([probe.logits(tokens, mask, positions) for probe in probes[part]])

        details = {
            "seeds": list(self.seeds),
            "tokens": int(tokens.shape[1]),
            "training_records": sorted({len(part.train) for part in task.parts}),
            "chosen_epochs": [probe.epoch for some in probes for probe in some],
            "probe_parameters": sum(weight.numel() for weight in probes[0][0].parameters()),
        }
        return pooled(task, score, kind="logit", scales_differ=True, details=details)


class PooledTokens(nn.Module):
    """Queries, what they pool of tokens that are standardised first, and a linear layer under it."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, heads: int, classes: int) -> None:
        super().__init__()
        width = len(mean)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.queries = nn.Parameter(torch.zeros(heads, width))
        self.weight = nn.Parameter(torch.zeros(heads * width, classes))
        self.bias = nn.Parameter(torch.zeros(classes))
        with torch.no_grad():  # heads that start alike would stay alike
            for h in range(heads):
                self.queries[h, h::heads] = 0.1
        self.epoch, self.quality = 0, -math.inf

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the logits (n, C) of `tokens` (n, M, P), of which `mask` (n, M) are real."""
        x = (tokens - self.mean) * self.scale
        weights = torch.einsum("nmp,hp->nhm", x, self.queries) / math.sqrt(x.shape[-1])
        weights = weights.masked_fill(~mask[:, None], -math.inf).softmax(dim=-1)  # (n, H, M)
        return torch.einsum("nhm,nmp->nhp", weights, x).flatten(1) @ self.weight + self.bias

    def logits(self, tokens: Tensor, mask: Tensor, positions: Positions) -> NDArray[np.float32]:
        """Return the logits of the records at `positions`, shape (n, C)."""
        with torch.no_grad():
            parts = [
                self(tokens[positions[i : i + CHUNK]], mask[positions[i : i + CHUNK]]) for i in range(0, len(positions), CHUNK)
            ]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def fit(
    tokens: Tensor, mask: Tensor, task: mb.TaskRecords, part: SplitPart, seed: int, fitting: AttentionFitting
) -> PooledTokens:
    """Return the probe of the best epoch, fitted on the training records of `part`."""
    labels = torch.from_numpy(task.labels.astype(np.float32))
    probe = PooledTokens(*token_moments(tokens[part.train], mask[part.train]), fitting.heads, labels.shape[1])
    optimizer = torch.optim.AdamW(probe.parameters(), lr=fitting.learning_rate, weight_decay=fitting.weight_decay)
    steps = fitting.epochs * math.ceil(len(part.train) / fitting.batch_size)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator, stale = np.random.default_rng(seed), 0
    kept = {name: tensor.clone() for name, tensor in probe.state_dict().items()}
    for epoch in range(fitting.epochs):
        order = generator.permutation(part.train)
        for start in range(0, len(order), fitting.batch_size):
            batch = order[start : start + fitting.batch_size]
            loss = F.binary_cross_entropy_with_logits(probe(tokens[batch], mask[batch]), labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            falling.step()
        quality = _quality(probe.logits(tokens, mask, part.validation), task.labels[part.validation])
        stale = 0 if quality > probe.quality else stale + 1
        if quality > probe.quality:
            probe.epoch, probe.quality = epoch + 1, quality
            kept = {name: tensor.clone() for name, tensor in probe.state_dict().items()}
        if stale >= fitting.patience:
            break
    probe.load_state_dict(kept)
    return probe


def token_moments(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and inverse deviation of each channel over the real ones of `tokens` (N, M, P); 0 where it does not vary."""
    real = tokens[mask].double()
    deviation = real.std(dim=0, correction=0)
    varies = deviation > 1e-6 * real.abs().amax(dim=0)
    scale = torch.where(varies, 1 / deviation.where(varies, torch.ones_like(deviation)), 0.0)
    return real.mean(dim=0).float(), scale.float()


def _quality(logits: NDArray[np.float32], labels: NDArray[Any]) -> float:
    """Return what an epoch is chosen by: the macro AUROC on validation, or minus the loss where no class can be ranked."""
    area = auroc(logits, labels)
    if not np.isnan(area).all():
        return float(np.nanmean(area))
    return -float(F.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(labels).float()))


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return the attention probe."""
    return [
        mb.Entry(
            "attention_probe",
            AttentiveProbe,
            "learned queries pool an encoder's tokens under a linear layer; the encoder is frozen",
            "https://arxiv.org/abs/2404.08471",
            "MIT",
        )
    ]
