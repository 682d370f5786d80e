"""One-dimensional ResNet, the demo's.

Paper: Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical Knowledge Enhancement (MERL),
    Liu et al. 2024, https://arxiv.org/abs/2403.06659; ResNet of He et al. 2016 in one dimension.
Written from the paper; differs in its sizes, which are a demo's by default (published: width 64, 500 Hz).
What probes read is the mean of the last feature map, as MERL's own probe does; MERL's attention pool is a head.
Shapes: B records, L leads, T samples, N positions, C channels of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import melp_bench as mb


class ResidualBlock(nn.Module):
    """Two convolutions of three taps, and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm1d(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv1d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm1d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C', N') for `x` (B, C, N)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet1d(mb.ECGEncoder):
    """18 layers in four stages; each stage but the first halves the rate and doubles the channels."""

    def __init__(self, *, width: int, rate_hz: float, seconds: float) -> None:
        super().__init__()
        self.spec = mb.SignalSpec(rate_hz=rate_hz, seconds=seconds)
        self.width = 8 * width
        self.conv1 = nn.Conv1d(len(self.spec.leads), width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
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
        feature_map = self.stages(torch.relu(self.bn1(self.conv1(signal))))  # (B, 8 width, N)
        mean = feature_map.mean(dim=-1)  # (B, 8 width)
        return mb.Features(record=mean, embedding=mean, tokens=feature_map.transpose(1, 2))


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
