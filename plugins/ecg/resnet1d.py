"""One-dimensional ResNet, the demo's.

Paper: Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical Knowledge Enhancement (MERL),
    Liu et al. 2024, https://arxiv.org/abs/2403.06659; ResNet of He et al. 2016 in one dimension.
Written from the paper; differs in its sizes, which are a demo's by default (published: width 64, 500 Hz).
What probes read is the mean of the last feature map, as MERL's own probe does; MERL's attention pool is a head.
Shapes: B records, L leads, T samples, N positions, C channels of a map.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.layers import convolve, sample_by_sample


class ResidualBlock(nn.Module):
    """Two convolutions of three taps, and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv1d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C', 1, N') for `x` (B, C, 1, N)."""
        y = torch.relu_(self.bn1(convolve(self.conv1, x)))
        y = self.bn2(convolve(self.conv2, y))
        if self.shortcut is not None:
            convolution, norm = self.shortcut
            x = norm(convolve(cast("nn.Conv1d", convolution), x))
        return torch.relu_(y + x)


class ResNet1d(mb.ECGEncoder):
    """18 layers in four stages; each stage but the first halves the rate and doubles the channels."""

    def __init__(self, *, width: int, rate_hz: float, seconds: float) -> None:
        super().__init__()
        self.spec = mb.SignalSpec(rate_hz=rate_hz, seconds=seconds)
        self.width = 8 * width
        self.conv1 = nn.Conv1d(len(self.spec.leads), width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages, inputs = [], width
        for i in range(4):
            outputs, stride = width * 2**i, 1 if i == 0 else 2
            stages.append(
                nn.Sequential(ResidualBlock(inputs, outputs, stride=stride), ResidualBlock(outputs, outputs, stride=1))
            )
            inputs = outputs
        self.stages = nn.Sequential(*stages)

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of `signal` (B, L, T), of any length."""
        x = torch.relu_(self.bn1(convolve(self.conv1, sample_by_sample(signal))))  # (B, width, 1, T / 2)
        tokens = self.stages(x).squeeze(2).transpose(1, 2)  # (B, N, 8 width)
        mean = tokens.mean(dim=1)  # (B, 8 width)
        return mb.Features(record=mean, embedding=mean, tokens=tokens)


def resnet1d_18(*, width: int = 16, rate_hz: float = 100.0, seconds: float = 10.0) -> ResNet1d:
    """Return an 18-layer ResNet with `width` channels in its first stage."""
    if width < 1:
        raise mb.UserError(f"width {width}: wanted a positive number")
    return ResNet1d(width=width, rate_hz=rate_hz, seconds=seconds)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Offer the ResNet."""
    return [
        mb.Entry(
            name="resnet1d-18",
            build=resnet1d_18,
            summary="small 18-layer 1-D ResNet, the demo's; at full size: resnet1d-18-plain",
            source="https://arxiv.org/abs/2403.06659",
            license="MIT",
        )
    ]
