"""One-dimensional ResNet with an attention pool.

Paper: Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical Knowledge Enhancement (MERL),
    Liu et al. 2024, https://arxiv.org/abs/2403.06659; ResNet of He et al. 2016 in one dimension.
Written from the paper; differs in its sizes, which are a demo's by default (published: width 64, 500 Hz, pool 256).
What probes read is the mean of the last feature map, as MERL's own probe does; the rhythm is the attention pool of it.
Shapes: B records, L leads, T samples, N positions, C channels of a map, D channels of the pool.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import melp_bench as mb


class Block(nn.Module):
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


class AttentionPool(nn.Module):
    """A class token that attends to itself and to the positions of a map, each with a learned position."""

    def __init__(self, *, positions: int, width: int, heads: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, positions + 1, width) / width**0.5)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D) for `x` (B, N, D); fewer positions than were learned use the first ones."""
        first = (self.cls + self.position[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([first, x], dim=1)  # (B, 1 + N, D)
        x = x + self.position[:, : x.shape[1]]
        pooled, _ = self.attention(x[:, :1], x, x, need_weights=False)  # (B, 1, D)
        out: Tensor = self.project(pooled[:, 0])
        return out


class ResNet1d(mb.ECGEncoder):
    """18 layers in four stages; each stage but the first halves the rate and doubles the channels."""

    def __init__(self, *, width: int, pool_width: int, heads: int, rate_hz: float, seconds: float) -> None:
        super().__init__()
        self.spec = mb.SignalSpec(rate_hz=rate_hz, seconds=seconds)
        self.width = 8 * width
        self._rhythm_width = pool_width
        self.conv1 = nn.Conv1d(len(self.spec.leads), width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        stages, inputs, positions = [], width, (self.spec.samples + 1) // 2
        for i in range(4):
            outputs, stride = width * 2**i, 1 if i == 0 else 2
            stages.append(nn.Sequential(Block(inputs, outputs, stride=stride), Block(outputs, outputs, stride=1)))
            inputs, positions = outputs, -(-positions // stride)
        self.stages = nn.Sequential(*stages)
        self.downconv = nn.Conv1d(self.width, pool_width, 1)
        self.pool = AttentionPool(positions=positions, width=pool_width, heads=heads)

    @property
    def record_width(self) -> int:
        """Channels of the attention pool."""
        return self._rhythm_width

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of `signal` (B, L, T); a signal shorter than `spec` asks for is read from its start."""
        feature_map = self.stages(torch.relu(self.bn1(self.conv1(signal))))  # (B, 8 width, N)
        rhythm = self.pool(self.downconv(feature_map).transpose(1, 2))  # (B, D)
        return mb.Features(record=rhythm, embedding=feature_map.mean(dim=-1), tokens=feature_map.transpose(1, 2))


def resnet1d_18(
    *, width: int = 16, pool_width: int = 128, heads: int = 4, rate_hz: float = 100.0, seconds: float = 10.0
) -> ResNet1d:
    """Return an 18-layer ResNet with `width` channels in its first stage."""
    if min(width, pool_width, heads) < 1 or pool_width % heads:
        raise mb.UserError(
            f"pool_width {pool_width} and heads {heads}: wanted positive numbers, the first a multiple of the second"
        )
    return ResNet1d(width=width, pool_width=pool_width, heads=heads, rate_hz=rate_hz, seconds=seconds)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Offer the ResNet."""
    return [
        mb.Entry(
            name="resnet1d-18",
            build=resnet1d_18,
            summary="small 18-layer 1-D ResNet with MERL's attention pool, the demo's; at full size: resnet1d-18-plain",
            source="https://arxiv.org/abs/2403.06659",
            license="MIT",
        )
    ]
