"""The layers of MERL's encoders, under their published names.

Paper: Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical Knowledge Enhancement (Liu et al.,
    ICML 2024), https://arxiv.org/abs/2403.06659
Shapes: B records, L leads, T samples, N tokens, C channels of the encoder, P shared channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from melp_plugins.ecg.prenorm_block import PreNormBlock

RESNETS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # blocks of the four stages
VITS = {"tiny": (192, 3), "small": (384, 6), "middle": (512, 8), "base": (768, 12)}  # width, heads

# ------------------------------------------------------------------------------------------------------------- ResNet layers


class BasicBlock(nn.Module):
    """Two convolutions of three samples beside a shortcut."""

    expansion = 1

    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inner, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm1d(width)
        self.shortcut = _shortcut(inner, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, N / stride)."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """A convolution of three samples between two that change the number of channels, beside a shortcut."""

    expansion = 4

    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inner, width, 1, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm1d(width)
        self.conv3 = nn.Conv1d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm1d(width * self.expansion)
        self.shortcut = _shortcut(inner, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 4 width, N / stride)."""
        out = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


def _shortcut(inner: int, outer: int, stride: int) -> nn.Sequential:
    if stride == 1 and inner == outer:
        return nn.Sequential()
    return nn.Sequential(nn.Conv1d(inner, outer, 1, stride, bias=False), nn.BatchNorm1d(outer))


class ResNet(nn.Module):
    """The four stages of a ResNet on a stem that halves the rate; there is no pooling after the stem."""

    def __init__(self, depth: int, num_leads: int) -> None:
        super().__init__()
        block = BasicBlock if depth < 50 else Bottleneck
        self.conv1 = nn.Conv1d(num_leads, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm1d(64)
        inner = 64
        for stage, num_blocks in enumerate(RESNETS[depth]):
            blocks = []
            for index in range(num_blocks):
                blocks.append(block(inner, 64 * 2**stage, 2 if stage > 0 and index == 0 else 1))
                inner = 64 * 2**stage * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.width = inner

    def forward(self, signal: Tensor) -> Tensor:
        """Return the feature map (B, C, ceil(T / 16))."""
        x = F.relu(self.bn1(self.conv1(signal)))  # (B, 64, T / 2)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


# ----------------------------------------------------------------------------------------------------------------- ViT layers


class ViT(nn.Module):
    """A transformer on patches of 50 samples of all leads, without a class token."""

    def __init__(self, size: str, num_leads: int, samples: int, patch: int = 50, depth: int = 12) -> None:
        super().__init__()
        self.width, heads = VITS[size]
        self.to_patch_embedding = nn.Conv1d(num_leads, self.width, patch, patch, bias=False)
        self.pos_embedding = nn.Parameter(torch.randn(1, samples // patch, self.width) * 0.02)
        self.depth = depth
        for index in range(depth):
            self.add_module(f"block{index}", PreNormBlock(self.width, heads, 4 * self.width))
        self.norm = nn.LayerNorm(self.width)

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled output (B, C), normalised after the mean, and the last block's tokens (B, N, C)."""
        x = self.through(self.to_patch_embedding(signal).transpose(1, 2) + self.pos_embedding)  # (B, N, C)
        return self.norm(x.mean(dim=1)), x

    def through(self, x: Tensor) -> Tensor:
        """Return the last block's states (B, K, C) of any K tokens."""
        for index in range(self.depth):
            x = self.get_submodule(f"block{index}")(x)
        return x
