"""A small ConvNeXt for ECGs. Paper: A ConvNet for the 2020s, arXiv:2201.03545; in one dimension, after a strided stem.

And a metric: the logarithmic score of probabilities, which has no upper bound.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import melp_bench as mb

Floats = NDArray[np.float64]


class Block(nn.Module):
    """Depthwise convolution over time, then two pointwise layers, on a residual path."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel_size=7, padding=3, groups=width)
        self.pointwise = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:  # (B, D, N)
        return x + self.pointwise(self.depthwise(x).transpose(1, 2)).transpose(1, 2)


class ConvNext1d(mb.ECGEncoder):
    def __init__(self, *, width: int = 64, depth: int = 4, stride: int = 20) -> None:
        super().__init__()
        self.spec, self.width = mb.SignalSpec(rate_hz=250.0, scaling=mb.Scaling.ZSCORE_LEAD), width
        self.stem = nn.Conv1d(len(self.spec.leads), width, kernel_size=stride, stride=stride)
        self.blocks, self.norm = nn.Sequential(*(Block(width) for _ in range(depth))), nn.LayerNorm(width)

    def forward(self, signal: Tensor) -> mb.Features:
        tokens = self.norm(self.blocks(self.stem(signal)).transpose(1, 2))  # (B, N, D)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return mb.Features(record=tokens.mean(dim=1), embedding=tokens.mean(dim=1), tokens=tokens, tokens_mask=mask)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    return [
        mb.Entry("external-convnet", ConvNext1d, "1-D ConvNeXt of another package", "https://arxiv.org/abs/2201.03545", "MIT")
    ]


def log_score(probabilities: Floats, labels: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the mean surprise at what was true, in bits, of each class, shape (C, R)."""
    surprise = -np.log2(np.clip(np.where(labels, probabilities, 1 - probabilities), 1e-12, None))  # (N, C)
    return surprise.T @ weights / weights.sum(axis=0)


def external_log_score() -> mb.Metric:
    return mb.Metric(
        "external-log-score", "surprise (bits)", log_score, higher_is_better=False, bounds=(0.0, np.inf), needs="probabilities"
    )


@mb.hookimpl
def melp_metrics() -> list[mb.Entry[mb.Metric]]:
    return [mb.Entry("external-log-score", external_log_score, "logarithmic score", license="MIT")]
