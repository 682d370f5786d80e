"""ECGFounder: a convolutional network of bottlenecks in groups with squeeze and excitation, of twelve leads or of one.

Paper: An Electrocardiogram Foundation Model Built on over 10 Million Recordings with External Evaluation across Multiple
    Domains, Li et al. 2024, https://arxiv.org/abs/2410.04133; its network is Hong et al.'s (2020), after RegNet and SENet.
Licence of the published code: MIT; that of the weights stands on their page, which nobody here has read. Written from the paper
and parity data; parameter names are the published ones. Pretrained, with labels, on the Harvard-Emory ECG Database; its authors
tested it on PTB-XL, MIMIC-IV-ECG, CODE-test and PhysioNet 2017. Whether Emory's records of the PhysioNet Challenge (G12EC) are
among those of the database, nobody states.
As published: 500 Hz, 10 s, without the mains of 50 Hz, 0.67 to 40 Hz, less a running median of 0.4 s, z-scored as a whole. The
authors' own test of the 150 classes leaves the filter out (`ecgfounder-unfiltered`), and a public suite reads 2.5 s in
millivolts (`ecgfounder-raw`). Batch norms stand in the files and are never run.
Shapes: B records, L leads, T samples, N positions, C channels, K classes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import Shapes

PAPER = "https://arxiv.org/abs/2410.04133"
STEM, STAGES = 64, ((64, 2), (160, 2), (160, 2), (400, 3), (400, 3), (1024, 4), (1024, 4))  # channels, blocks
KERNEL, STRIDE, GROUP, SQUEEZE = 16, 2, 16, 2
FILTER = mb.Filter(notch_hz=50.0, band=(0.67, 40.0), baseline_seconds=0.4, baseline_ends="zero")
AS_PUBLISHED = mb.SignalSpec(rate_hz=500.0, seconds=10.0, scaling=mb.Scaling.ZSCORE_RECORD, filter=FILTER)
UNFILTERED = replace(AS_PUBLISHED, filter=None)
RAW = mb.SignalSpec(rate_hz=500.0, seconds=2.5, crops=mb.Crops())
ONE_LEAD = replace(AS_PUBLISHED, leads=("I",))


class SamePaddedConv(nn.Module):
    """A convolution after which ceil(T / stride) positions are left; where padding is odd, the right has one more."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inner, outer, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outer, ceil(T / stride))."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        padding = max(0, (-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1])
        out: Tensor = self.conv(F.pad(x, (padding // 2, padding - padding // 2)))
        return out


class FounderBlock(nn.Module):
    """A bottleneck whose middle is a convolution in groups, weighed channel by channel, beside what came in.

    What came in is pooled where the block strides, and gets channels of zeros on both sides where the block has more.
    """

    def __init__(self, inner: int, outer: int, stride: int, *, first: bool) -> None:
        super().__init__()
        self.first, self.stride, self.more = first, stride, outer - inner
        self.conv1 = SamePaddedConv(inner, outer, 1)
        self.conv2 = SamePaddedConv(outer, outer, KERNEL, stride, groups=outer // GROUP)
        self.conv3 = SamePaddedConv(outer, outer, 1)
        self.se_fc1, self.se_fc2 = nn.Linear(outer, outer // SQUEEZE), nn.Linear(outer // SQUEEZE, outer)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outer, ceil(N / stride))."""
        out = self.conv1(x if self.first else F.silu(x))
        out = self.conv3(F.silu(self.conv2(F.silu(out))))
        weights = torch.sigmoid(self.se_fc2(F.silu(self.se_fc1(out.mean(dim=-1)))))  # (B, C)
        if self.stride > 1:
            x = F.max_pool1d(F.pad(x, (0, self.stride - 1)), self.stride)
        if self.more:
            x = F.pad(x, (0, 0, self.more // 2, self.more - self.more // 2))
        return out * weights[..., None] + x


class FounderStage(nn.Module):
    """Blocks, of which the first strides."""

    def __init__(self, inner: int, outer: int, blocks: int, *, first: bool) -> None:
        super().__init__()
        self.block_list = nn.ModuleList(
            FounderBlock(outer if i else inner, outer, 1 if i else STRIDE, first=first and i == 0) for i in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outer, ceil(N / stride))."""
        for block in self.block_list:
            x = block(x)
        return x


class ECGFounder(mb.ECGEncoder):
    """The network; tokens are the positions of its feature map, a record is their mean, and `logits` are the 150 labels'."""

    corpora: tuple[str, ...] = ("heedb",)
    corpora_source = "the paper, section 'Data'; G12EC is Emory's too, and whether records are in both nobody states"
    width = STAGES[-1][0]

    def __init__(self, spec: mb.SignalSpec, *, classes: int = 150) -> None:
        super().__init__()
        self.spec = spec
        self.first_conv = SamePaddedConv(len(spec.leads), STEM, KERNEL, STRIDE)
        inner = [STEM, *(channels for channels, _ in STAGES)]
        self.stage_list = nn.ModuleList(
            FounderStage(inner[i], channels, blocks, first=i == 0) for i, (channels, blocks) in enumerate(STAGES)
        )
        self.dense = nn.Linear(self.width, classes).requires_grad_(False)  # features do not read it

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of `signal` (B, L, T) of any length."""
        feature_map = self.feature_map(signal)
        pooled = feature_map.mean(dim=-1)
        return mb.Features(record=pooled, embedding=pooled, tokens=feature_map.transpose(1, 2))

    def feature_map(self, signal: Tensor) -> Tensor:
        """Return the last stage's channels (B, C, N)."""
        x = F.silu(self.first_conv(signal))
        for stage in self.stage_list:
            x = stage(x)
        return x

    def logits(self, signal: Tensor) -> Tensor:
        """Return the logits (B, K) of the labels it was pretrained with, in the order of its authors' list."""
        out: Tensor = self.dense(self.feature_map(signal).mean(dim=-1))
        return out


def _classes(shapes: Shapes) -> dict[str, Any]:
    return {"classes": shapes["dense.bias"][0]}


def family(name: str) -> mb.Family:
    """Return how files are spelt: without a prefix, and with batch norms that nothing reads."""
    never = "a batch norm that the published network holds and never runs (use_bn is off)"
    leads = "1" if name == "ecgfounder-1lead" else "12"
    return mb.Family(
        name=name,
        anchor="first_conv.conv.weight",
        unused=(("first_bn.*", never), ("stage_list.{}.block_list.{}.bn{}.*", never)),
        options=_classes,
        files=f"hf:PKUDigitalHealth/ECGFounder/{leads}_lead_ECGFounder.pth",
    )


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return ECGFounder as its authors feed it, with twelve leads and with one, and as others do."""
    network = "ECGFounder: grouped bottlenecks with squeeze and excitation"
    specs = {
        "ecgfounder": (AS_PUBLISHED, f"{network}, 12 leads"),
        "ecgfounder-1lead": (ONE_LEAD, f"{network}, lead I alone"),
        "ecgfounder-unfiltered": (UNFILTERED, "ECGFounder fed as its authors test the 150 classes: no filter"),
        "ecgfounder-raw": (RAW, "ECGFounder fed as ecg-fm-benchmarking does: 2.5 s in millivolts"),
    }
    return [
        mb.Entry(name=name, build=partial(ECGFounder, spec), summary=what, source=PAPER, license="MIT", published=family(name))
        for name, (spec, what) in specs.items()
    ]
