"""What an encoder costs on any machine: parameters and floating-point operations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from melp_bench.components import ECGEncoder


def num_parameters(module: nn.Module) -> int:
    """Return the number of parameters, a shared one counted once."""
    return sum(p.numel() for p in module.parameters())


def gflops_per_record(encoder: ECGEncoder) -> float:
    """Return the floating-point operations of one record's forward pass, in 1e9; a multiply-add is two.

    Matrix products, convolutions and attention are counted, in their plain form; what is linear in the activations (norms,
    activations, softmax) is not. The encoder is left as it was.
    """
    spec = encoder.spec
    parameter = next(encoder.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    record = torch.zeros(1, len(spec.leads), spec.samples, device=device)
    training = encoder.training
    try:
        encoder.eval()
        return counted_flops(lambda: encoder(record)) / 1e9
    finally:
        encoder.train(training)


def counted_flops(call: Callable[[], object]) -> float:
    """Return the floating-point operations of a call without gradients, counted as those of a record are."""
    fast = torch.backends.mha.get_fastpath_enabled()
    counter = FlopCounterMode(display=False)
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # the fused layer is one operation to the counter, worth nothing
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return float(counter.get_total_flops())
