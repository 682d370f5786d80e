"""The whole batch's loss and gradient, with the features of only a part of the batch in memory at a time.

Paper: Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (GradCache), Gao et al. 2021,
https://arxiv.org/abs/2101.06983. Features of all parts are made without a graph; the loss is of the whole batch (of all ranks,
where an objective asks for it), and gives the gradient of each feature; then each part is made again, with the same randomness,
and that gradient goes down its graph. An objective that runs an encoder itself (masked prediction) compares no records: its
parts are terms of their own, weighed by what they count. The sums are the whole batch's but for rounding. Differs where an
encoder normalises by batch: its statistics are of a part, as with several ranks they are of a rank's records.

Shapes: B records of a rank, M parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from melp_bench.features import Features
from melp_bench.pretrain.distributed import average_gradients, total_loss
from melp_bench.pretrain.gathered import Gather, with_masks
from melp_bench.pretrain.layers import towers_of, untracked
from melp_bench.pretrain.step import Batch, Step, parameters_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

OF_THE_MODEL = frozenset({"encoder", "text_encoder", "heads"})
OF_THE_BATCH = frozenset({"signal", "labels", "patients", "reports", "progress"})
"""Inputs that are there without any work: they are taken from the whole batch."""
Place = tuple[str, str, str]
"""Of a tensor: the term, the name that its objective has for it, and of features, which of their tensors it is."""


@dataclass(frozen=True)
class Parts:
    """A batch in parts, and what else a step is made with.

    Attributes:
        seed: makes all that is random a function of a part's number.
        generator: what views are drawn from, which `seed` has seeded.
    """

    batch: Batch
    size: int
    seed: Callable[[int], None]
    generator: torch.Generator
    gather: Gather | None
    progress: float


def norm_by_batch(step: Step) -> str | None:
    """Return the name of the first module of an encoder that normalises by batch; None if there is none."""
    for tower_name, tower in towers_of(step.model).items():
        for name, module in tower.named_modules():
            if isinstance(module, _BatchNorm):
                return f"{tower_name}.{name}"
    return None


def cached_loss(
    step: Step, parts: Parts, weights: Mapping[str, float], fabric: Fabric
) -> tuple[Tensor, dict[str, float], Callable[[], None]]:
    """Return the weighted sum to go backward on, each term as the mean over all ranks, and what finishes the backward pass."""
    pieces = parts.batch.pieces(parts.size)
    made: list[dict[Place, Tensor]] = []
    needed: set[Place] = set()
    with untracked(step):
        for number, piece in enumerate(pieces):
            tells = number == 0 and torch.is_grad_enabled()  # the first tells which have a gradient at all
            with torch.set_grad_enabled(tells), fabric.autocast():
                found = _made(step, parts, number, piece)
            needed |= {place for place, tensor in found.items() if tensor.requires_grad}
            made.append({place: tensor.detach() for place, tensor in found.items()})
    leaves = {place: _joined([one[place] for one in made]).requires_grad_(place in needed) for place in made[0]}
    parts.seed(len(pieces))
    with fabric.autocast():
        terms = step(parts.batch, parts.generator, instead=lambda: _terms(step, parts, leaves))
    total, values = total_loss(terms, weights, fabric)

    def finish() -> None:
        begins = dict.fromkeys(leaves, 0)
        for number, piece in enumerate(pieces):
            with fabric.autocast():
                again = _made(step, parts, number, piece)
            roots, gradients = [], []
            for place, tensor in again.items():
                rows = slice(begins[place], begins[place] + len(tensor))
                begins[place] = rows.stop
                gradient = leaves[place].grad
                if gradient is not None and tensor.requires_grad:
                    roots.append(tensor)
                    gradients.append(_cut(gradient[rows], tensor))
            torch.autograd.backward(roots, gradients)
        average_gradients(step, fabric)

    return total, values, finish


def _own(step: Step, term: str) -> bool:
    """Return whether an objective runs a part of the model in its `forward`, and so is a term of its own in each part."""
    return bool(OF_THE_MODEL & set(parameters_of(step.objectives[term], "forward")))  # type: ignore[arg-type]


def _made(step: Step, parts: Parts, number: int, piece: Batch) -> dict[Place, Tensor]:
    """Return all that has to be computed of a part before its records meet the others': features, and terms of its own."""

    def work() -> dict[Place, Tensor]:
        found: dict[Place, Tensor] = {}
        for term, given in step.given(piece, parts.generator, parts.progress):
            if _own(step, term):
                mean, count = step.term(term, given, None, len(piece))
                found |= {(term, "mean", ""): mean[None], (term, "count", ""): count.detach()[None]}
                continue
            for name in parameters_of(step.objectives[term], "forward"):  # type: ignore[arg-type]
                value = given.get(name)
                if isinstance(value, Features):
                    found |= {(term, name, of): tensor for of, tensor in with_masks(value).present().items()}
                elif isinstance(value, Tensor) and name not in OF_THE_BATCH:
                    found[term, name, ""] = value
        return found

    parts.seed(number)
    result: dict[Place, Tensor] = step(piece, parts.generator, instead=work)
    return result


def _terms(step: Step, parts: Parts, leaves: Mapping[Place, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the terms of the whole batch: term -> (mean, count)."""
    batch = parts.batch
    raw = {"signal": batch.signal, "labels": batch.labels, "patients": batch.patients, "reports": batch.reports}
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for term in step.objectives:
        mine = {(name, of): tensor for (whose, name, of), tensor in leaves.items() if whose == term}
        if _own(step, term):
            counts = mine["count", ""]
            found[term] = (
                (mine["mean", ""] * counts).sum() / counts.sum().clamp_min(torch.finfo(counts.dtype).tiny),
                counts.sum(),
            )
            continue
        given: dict[str, Any] = raw | {"progress": parts.progress}
        for name in {name for name, _ in mine}:
            fields = {of: tensor for (whose, of), tensor in mine.items() if whose == name}
            given[name] = fields[""] if "" in fields else Features(**fields)
        found[term] = step.term(term, given, parts.gather, len(batch))
    return found


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return the rows of all parts, (B, ...); where they are of different lengths, (M_i, N_i, ...), the shorter are padded."""
    if tensors[0].ndim < 2 or len({tensor.shape[1] for tensor in tensors}) == 1:
        return torch.cat(list(tensors))
    longest = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([F.pad(t, [0, 0] * (t.ndim - 2) + [0, longest - t.shape[1]]) for t in tensors])


def _cut(gradient: Tensor, tensor: Tensor) -> Tensor:
    """Return the gradient without what its rows were padded with."""
    return gradient if gradient.shape == tensor.shape else gradient[:, : tensor.shape[1]]
