"""What one record costs in a training step, counted by running two small ones.

Shapes: B records.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from melp_bench.pretrain.step import Batch, Step
from melp_bench.throughput.scaling import StepCost

BATCHES = (2, 4)
"""Two sizes tell what a record costs by itself from what a pair of records costs."""


def count_step(step: Step, batch_of: Callable[[int], Batch], *, read_bytes: float) -> StepCost:
    """Return what a record costs in a step, given what makes a batch of so many records; weights stay as they are.

    Matrix products, convolutions and attention are counted, a multiply-add as two, forward and backward as autograd runs them.
    """
    counted = [_run(step, batch_of(number)) for number in BATCHES]
    (first, bytes_first), (second, _) = counted
    small, large = BATCHES
    pair = (second / large - first / small) / (large - small)
    trained = sum(p.numel() for p in step.parameters() if p.requires_grad)
    return StepCost(first / small - small * pair, pair, bytes_first / small, read_bytes, trained)


def _run(step: Step, batch: Batch) -> tuple[float, int]:
    """Return the operations of a step on a batch, forward and backward, and the bytes that ranks would gather."""
    gathered = 0

    def gather(tensor: Tensor) -> Tensor:
        nonlocal gathered
        gathered += tensor.numel() * tensor.element_size()
        return tensor

    counter, training = FlopCounterMode(display=False), step.training
    step.train()
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            terms = step(batch, torch.Generator().manual_seed(0), gather, 0.0)
            total = torch.stack([mean for mean, _ in terms.values()]).sum()
            torch.autograd.backward(total)
    finally:
        step.zero_grad(set_to_none=True)
        step.train(training)
    return float(counter.get_total_flops()), gathered
