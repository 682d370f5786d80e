"""Fine-tuning: the encoder goes on learning, under a linear layer on its embedding, and is judged by the test part once.

All of it is trained, or the last n layers alone. A layer is what has a weight of at least two dimensions (a linear map, a
convolution, an attention's projections), with the norms and biases that follow it; layers are counted in the order in which a
record passes them. What is not trained stays in eval mode, so that its running statistics stay too. With `layer_decay` below 1
each layer learns at that share of the rate of the layer behind it, the last one at `learning_rate` (discriminative rates,
Howard and Ruder 2018, arXiv:1801.06146).

Training: binary cross-entropy on logits, mean over records and classes; AdamW, the new layer at `head_learning_rate` and from
zero; the rates fall by a cosine. After each epoch the macro AUROC on validation is taken over the classes that have both
answers there (minus the loss where none has); the best epoch is kept, the earliest of equals. Every part of a cross-validation
is tuned by itself. The context's model is never touched: a copy learns.

Shapes: B records, L leads, T samples, n records asked for, C classes, S seeds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.metrics.ranking import auroc
from melp_bench.splits import Positions, SplitPart
from melp_plugins.evaluations.pooling import pooled, require_parts
from melp_plugins.evaluations.probing import require_seeds


class FineTune(mb.Evaluation):
    """One row per task; its score is the mean over the seeds. `layers` is how many of the last layers learn, 0 for all."""

    version = 1
    label = "fine-tuning"
    metrics = ("auroc", "auprc")

    def __init__(
        self,
        *,
        layers: int = 0,
        layer_decay: float = 1.0,
        epochs: int = 5,
        batch_size: int = 32,
        learning_rate: float = 1e-4,
        head_learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        seeds: tuple[int, ...] = (0,),
    ) -> None:
        """Check the options.

        Raises:
            UserError: a number makes no sense, or there is no seed.
        """
        if layers < 0 or epochs < 1 or batch_size < 1:
            told = f"layers = {layers}, epochs = {epochs} and batch_size = {batch_size}"
            raise mb.UserError(f"evaluation 'fine_tune' has {told}; wanted at least 0, 1 and 1")
        if not 0 < layer_decay <= 1:
            raise mb.UserError(f"evaluation 'fine_tune' has layer_decay = {layer_decay!r}; wanted more than 0 and at most 1")
        self.layer_decay = layer_decay
        self.layers, self.epochs, self.batch_size, self.seeds = layers, epochs, batch_size, require_seeds(seeds, "fine_tune")
        self.learning_rate, self.head_learning_rate = learning_rate, head_learning_rate
        self.weight_decay = weight_decay

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task."""
        options = {**vars(self), "seeds": list(self.seeds)}
        setting = f"last {self.layers} layers" if self.layers else "all layers"
        setting += f", rates fall by {self.layer_decay:g}" if self.layer_decay < 1 else ""
        return [mb.Measurement(task, (task,), setting, options) for task in tasks]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the logits of tuned copies of the encoder, one set per seed.

        Raises:
            NotApplicable: a part of the split is empty, or the encoder has no weights.
        """
        task = context.task(measurement.task)
        require_parts(task)
        tuned = {(n, s): self._tune(context, task, part, s) for n, part in enumerate(task.parts) for s in self.seeds}

        def score(part: int, positions: Positions) -> NDArray[np.float32]:
            return np.stack([_logits(tuned[part, s].network, context, task, positions) for s in self.seeds])

        details = {
            "seeds": list(self.seeds),
            "chosen_epochs": [one.epoch for one in tuned.values()],
            "validation": [round(one.quality, 6) for one in tuned.values()],
            "tuned_parameters": next(iter(tuned.values())).network.num_tuned,
            "training_records": sorted({len(part.train) for part in task.parts}),
        }
        return pooled(task, score, kind="logit", scales_differ=True, details=details)

    def _tune(self, context: mb.Context, task: mb.TaskRecords, part: SplitPart, seed: int) -> Tuned:
        """Return the best epoch of one part and seed; what is random comes from the seed and leaves no trace outside."""
        with torch.random.fork_rng(devices=[context.device] if context.device.type == "cuda" else []):
            torch.manual_seed(seed)
            example = context.signals(task, part.train[:2])
            network = Network(context.model.encoder, len(task.classes), self.layers, example).to(context.device)
            return self._fit(network, context, task, part, np.random.default_rng(seed))

    def _fit(
        self, network: Network, context: mb.Context, task: mb.TaskRecords, part: SplitPart, generator: np.random.Generator
    ) -> Tuned:
        optimizer = torch.optim.AdamW(
            [
                *rates_of(network.groups, self.learning_rate, self.layer_decay),
                {"params": list(network.head.parameters()), "lr": self.head_learning_rate},
            ],
            weight_decay=self.weight_decay,
        )
        steps = self.epochs * math.ceil(len(part.train) / self.batch_size)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        labels = torch.from_numpy(task.labels.astype(np.float32)).to(context.device)
        best, chosen, kept = -math.inf, 0, network.state_dict()
        for epoch in range(self.epochs):
            network.learn()
            order = generator.permutation(part.train)
            for start in range(0, len(order), self.batch_size):
                positions = order[start : start + self.batch_size]
                loss = F.binary_cross_entropy_with_logits(network(context.signals(task, positions)), labels[positions])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                falling.step()
            quality = _quality(_logits(network, context, task, part.validation), task.labels[part.validation])
            if quality > best:
                best, chosen = quality, epoch + 1
                kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(kept)
        return Tuned(network, chosen, best)


class Network(nn.Module):
    """A copy of an encoder under a linear layer of zeros, of which the last `layers` layers (0: all) learn."""

    def __init__(self, encoder: mb.ECGEncoder, classes: int, layers: int, example: Tensor) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        self.head = nn.Linear(encoder.embedding_width, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        groups = layers_of(self.encoder, example)
        if not groups:
            raise mb.NotApplicable("the encoder has no weights that a record's embedding depends on")
        self.groups = groups[-layers:] if layers else groups
        chosen = {id(weight) for group in self.groups for weight in group}
        for weight in self.encoder.parameters():
            weight.requires_grad_(id(weight) in chosen)
        self.num_tuned = sum(weight.numel() for weight in self.parameters() if weight.requires_grad)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the logits of `signal` (B, L, T), shape (B, C)."""
        logits: Tensor = self.head(self.encoder(signal).embedding)
        return logits

    def learn(self) -> None:
        """Put what is trained in training mode, and the rest in eval mode."""
        self.train()
        for module in self.encoder.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(weight.requires_grad for weight in own):
                module.eval()


class Tuned:
    """A tuned network, the epoch that was kept, and what it was chosen by."""

    def __init__(self, network: Network, epoch: int, quality: float) -> None:
        self.network, self.epoch, self.quality = network, epoch, quality


def rates_of(layers: Sequence[list[nn.Parameter]], last: float, decay: float) -> list[dict[str, Any]]:
    """Return `layers` as an optimiser's groups: the last at the rate `last`, each before it at `decay` times its follower's."""
    depth = len(layers)
    return [{"params": layer, "lr": last * decay ** (depth - 1 - place)} for place, layer in enumerate(layers)]


def layers_of(encoder: nn.Module, example: Tensor) -> list[list[nn.Parameter]]:
    """Return the weights of each layer, in the order in which `example` (B, L, T) passes them.

    What the embedding does not depend on is in none. A module's weights are met when it is called;
    one whose owner reads its weights without calling it is met with its owner.
    """
    called: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, __, name=name: called.append(name))
        for name, module in encoder.named_modules()
    ]
    try:
        embedding = encoder.eval()(example).embedding  # with gradients, so that no fused path hides what is called
    finally:
        for hook in hooks:
            hook.remove()
    weights = dict(encoder.named_parameters())
    slopes: tuple[Tensor | None, ...] = torch.autograd.grad(embedding.sum(), list(weights.values()), allow_unused=True)
    order = {name: place for place, name in reversed(list(enumerate(called)))}  # of its first call
    met: dict[str, list[nn.Parameter]] = {}
    for (name, weight), slope in zip(weights.items(), slopes, strict=True):
        if slope is None:
            continue
        owner = name.rpartition(".")[0]
        while owner and owner not in order:
            owner = owner.rpartition(".")[0]
        met.setdefault(owner, []).append(weight)
    layers: list[list[nn.Parameter]] = []
    for owner in sorted(met, key=order.__getitem__):
        if not layers or any(weight.ndim > 1 for weight in met[owner]):
            layers.append([])
        layers[-1].extend(met[owner])
    return layers


def _logits(network: Network, context: mb.Context, task: mb.TaskRecords, positions: Positions) -> NDArray[np.float32]:
    """Return the logits of the task's records at `positions`, shape (n, C)."""
    network.eval()
    parts: list[NDArray[Any]] = []
    with torch.no_grad():
        for start in range(0, len(positions), 64):
            parts.append(network(context.signals(task, positions[start : start + 64])).float().cpu().numpy())
    return np.concatenate(parts)


def _quality(logits: NDArray[np.float32], labels: NDArray[np.bool_]) -> float:
    """Return what an epoch is chosen by: the macro AUROC on validation, or minus the loss where no class can be ranked."""
    area = auroc(logits, labels)
    if not np.isnan(area).all():
        return float(np.nanmean(area))
    return -float(F.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(labels).float()))


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return fine-tuning."""
    return [
        mb.Entry(
            "fine_tune",
            FineTune,
            "the encoder learns on, all of it or its last layers, under a linear layer",
            "https://arxiv.org/abs/1411.1792",
            "MIT",
        )
    ]
