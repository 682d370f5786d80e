"""Layers of the demo's encoders beside torch's own, forward and backward at the demo's sizes, on one thread.

Run with `pytest --benchmark-enable tests/benchmarks`; what it shows are ratios, and the machine does not matter for them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from melp_plugins.layers import Attention, convolve, sample_by_sample
from melp_plugins.views.relative import level, spread

B, N, D, LEADS, SAMPLES = 24, 63, 128, 12, 1000
Benchmark = Callable[..., object]


@pytest.fixture(autouse=True)
def _only_when_asked(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("a benchmark; run with --benchmark-enable")
    torch.set_num_threads(1)


def trained(layer: nn.Module, made: Callable[[], Tensor]) -> Callable[[], object]:
    """Return a call that makes an output and the gradients of the layer's weights."""
    like = torch.randn_like(made())
    return lambda: torch.autograd.grad(made(), [p for p in layer.parameters() if p.requires_grad], like, allow_unused=True)


@pytest.mark.benchmark(group="self-attention")
@pytest.mark.parametrize("kind", ["ours", "torch"])
def test_self_attention(kind: str, benchmark: Benchmark) -> None:
    x = torch.randn(B, N, D, requires_grad=True)
    layer = Attention(D, 4) if kind == "ours" else nn.MultiheadAttention(D, 4, batch_first=True)
    benchmark(trained(layer, lambda: layer(x, x, x, need_weights=False)[0]))


@pytest.mark.benchmark(group="queries that all records share: at least 2 x torch's")
@pytest.mark.parametrize("kind", ["ours", "torch"])
def test_shared_queries(kind: str, benchmark: Benchmark) -> None:
    x, query = torch.randn(B, N, D, requires_grad=True), torch.randn(1, 12, 256)
    if kind == "ours":
        layer: nn.Module = Attention(256, 4, context=D)
    else:
        layer, query = nn.MultiheadAttention(256, 4, kdim=D, vdim=D, batch_first=True), query.expand(B, -1, -1)
    benchmark(trained(layer, lambda: layer(query, x, x, need_weights=False)[0]))


@pytest.mark.benchmark(group="convolution and batch norm")
@pytest.mark.parametrize("kind", ["sample by sample", "torch"])
def test_convolution(kind: str, benchmark: Benchmark) -> None:
    x, convolution = torch.randn(B, 32, 500), nn.Conv1d(32, 64, 7, stride=2, padding=3, bias=False)
    if kind == "torch":
        layer = nn.Sequential(convolution, nn.BatchNorm1d(64))
        benchmark(trained(layer, lambda: layer(x)))
    else:
        norm, wide = nn.BatchNorm2d(64), sample_by_sample(x)
        benchmark(trained(nn.ModuleList([convolution, norm]), lambda: norm(convolve(convolution, wide))))


@pytest.mark.benchmark(group="level and spread of a record: at least 5 x torch's")
@pytest.mark.parametrize("kind", ["ours", "torch"])
def test_level_and_spread(kind: str, benchmark: Benchmark) -> None:
    x = torch.randn(B, LEADS, SAMPLES)
    if kind == "ours":
        benchmark(lambda: (level(x), spread(x)))
    else:
        benchmark(lambda: (x[..., ::4].median(dim=-1).values, x.std(dim=(1, 2))))
