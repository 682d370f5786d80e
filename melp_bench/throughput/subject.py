"""What a speed is measured of, as something that can be called: an encoder, a text encoder, or a stage's objective.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from melp_bench.components import ECGEncoder, TextEncoder
from melp_bench.features import Features
from melp_bench.pretrain.step import Batch, Step
from melp_bench.throughput.cost import counted_flops, gflops_per_record
from melp_bench.throughput.rows import SubjectName, Work


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured.

    Attributes:
        name: its kind, name and options.
        module: whose weights are counted.
        records: of one call.
        forward: the call; what it returns is what a backward pass begins at.
        trained: every tensor that a backward pass leaves a gradient at.
        gflops: returns the operations of one record's forward pass, in 1e9.
    """

    name: SubjectName
    module: nn.Module
    records: int
    forward: Callable[[], Sequence[Tensor]]
    trained: Sequence[Tensor]
    gflops: Callable[[], float]


def encoder_subject(name: SubjectName, encoder: ECGEncoder, work: Work, device: torch.device) -> Subject:
    """Return an ECG encoder with records of noise."""
    encoder, spec = encoder.to(device).train(work.mode == "train"), encoder.spec
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(work.batch, len(spec.leads), spec.samples, generator=generator).to(device)  # (B, L, T)
    return Subject(
        name,
        encoder,
        work.batch,
        lambda: list(encoder(signal).present().values()),
        list(encoder.parameters()),
        lambda: gflops_per_record(encoder),
    )


def text_subject(name: SubjectName, encoder: TextEncoder, reports: Sequence[str], work: Work, device: torch.device) -> Subject:
    """Return a text encoder with `reports`, tokenised beforehand."""
    encoder, batch = encoder.to(device).train(work.mode == "train"), encoder.tokenize(reports).to(device)

    def forward() -> list[Tensor]:
        return list(encoder(batch).present().values())

    def gflops() -> float:
        return counted_flops(forward) / len(reports) / 1e9

    return Subject(name, encoder, len(reports), forward, list(encoder.parameters()), gflops)


def objective_subject(name: SubjectName, step: Step, term: str, batch: Batch, work: Work) -> Subject:
    """Return a term of a training step with its own inputs, which the step's model made of `batch` beforehand.

    What it does itself is measured (its `local` and its `forward`, with an encoder that it runs there), and the way back to its
    inputs, where the gradient of an encoder would begin.
    """
    step.train(work.mode == "train")
    with torch.no_grad():
        made = dict(step.inputs(batch, torch.Generator().manual_seed(0), 0.0))[term]
    given, leaves = _as_leaves(made)

    def called(inputs: Mapping[str, Any]) -> list[Tensor]:
        mean, _ = step.term(term, step.with_local(term, inputs), None, len(batch))
        return [mean]

    def gflops() -> float:
        return counted_flops(lambda: called(made)) / len(batch) / 1e9

    return Subject(name, step.objectives[term], len(batch), lambda: called(given), [*leaves, *step.parameters()], gflops)


def _as_leaves(made: Mapping[str, Any]) -> tuple[dict[str, Any], list[Tensor]]:
    """Return an objective's inputs, features among them as tensors that gather a gradient, and these tensors."""
    given, leaves = dict(made), list[Tensor]()
    for name, value in made.items():
        if isinstance(value, Features):
            fields = {of: _leaf(tensor) for of, tensor in value.present().items()}
            given[name] = Features(**fields)
            leaves += [tensor for tensor in fields.values() if tensor.requires_grad]
    return given, leaves


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.is_floating_point())
