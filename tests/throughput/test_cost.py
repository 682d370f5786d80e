"""FLOPs are those of the closed form, whichever fused kernel would run; parameters are counted once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.throughput.cost import gflops_per_record, num_parameters
from melp_bench.throughput.memory import weight_bytes

D, N, HIDDEN, PATCH = 16, 40, 32, 25


class Patches(mb.ECGEncoder):
    """One strided convolution and one transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.width = mb.SignalSpec(rate_hz=100.0), D
        self.stem = nn.Conv1d(12, D, kernel_size=PATCH, stride=PATCH)
        self.layer = nn.TransformerEncoderLayer(D, 2, HIDDEN, dropout=0.0, batch_first=True)

    def forward(self, signal: Tensor) -> mb.Features:
        tokens = self.layer(self.stem(signal).transpose(1, 2))
        return mb.Features(record=tokens.mean(1), embedding=tokens.mean(1), tokens=tokens)


@pytest.mark.parametrize("training", [True, False])
def test_flops_are_those_of_the_closed_form_fused_or_not(training: bool) -> None:
    encoder = Patches().train(training)
    stem = 2 * 12 * PATCH * D * N
    projections = 4 * 2 * N * D * D  # query, key, value, output
    attention = 2 * 2 * N * N * D  # scores, and their sum of values
    feed_forward = 2 * 2 * N * D * HIDDEN
    assert gflops_per_record(encoder) * 1e9 == stem + projections + attention + feed_forward
    assert encoder.training is training
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_shared_weight_is_one_parameter() -> None:
    one, two = nn.Linear(3, 5, bias=False), nn.Linear(3, 5, bias=False)
    two.weight = one.weight
    both = nn.ModuleList([one, two])
    assert num_parameters(both) == 15
    assert weight_bytes(both) == 60
