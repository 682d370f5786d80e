"""The supervised reference encoders of PTB-XL's benchmark, xresnet1d101 and inception1d, and residual networks beside them.

Papers: Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL (Strodthoff et al., 2020),
    https://arxiv.org/abs/2004.13701; Bag of Tricks for Image Classification (He et al., 2019); InceptionTime (Fawaz et al.,
    2020); Time Series Classification from Scratch with Deep Neural Networks (Wang et al., 2017),
    https://arxiv.org/abs/1611.06455; Deep Residual Learning for Image Recognition (He et al., 2016), whose 18, 34 and 50 layers
    stand here in one dimension, without the pooling after the stem; `resnet1d-18` by itself is the demo's small one
Licence of the published code: GPL-3.0; this is written from the papers. Parameter names are the published ones, for the xresnet
below `layers.`.
As published: 100 Hz, amplitudes scaled by one mean and deviation of the whole training set, for which the z-score of each
record stands here; trained on crops of 2.5 s, and tested by the largest logit over crops (`record_logits`). Features read the
10 s at once, so that their spec has no crops: those of the authors pool logits, not embeddings.
Shapes: B records, L leads, T samples, N positions, C channels of the feature map, K classes.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import Shapes
from melp_plugins.ecg.merl_layers import ResNet

PAPER = "https://arxiv.org/abs/2004.13701"
SPEC = mb.SignalSpec(rate_hz=100.0, seconds=10.0, scaling=mb.Scaling.ZSCORE_RECORD)
CORPORA = ("ptb-xl",)  # of the published weights
CROP, CROP_STEP = 250, 125  # samples

# ----------------------------------------------------------------------------------------------------------------- xresnet1d


def conv_layer(
    inner: int, outer: int, kernel: int, stride: int = 1, *, active: bool = True, norm_scale: float = 1.0
) -> nn.Sequential:
    """Return a convolution that keeps the length (but for the stride), a batch norm and, if `active`, a ReLU."""
    norm = nn.BatchNorm1d(outer)
    nn.init.constant_(norm.weight, norm_scale)
    layers = [nn.Conv1d(inner, outer, kernel, stride, kernel // 2, bias=False), norm]
    return nn.Sequential(*layers, nn.ReLU()) if active else nn.Sequential(*layers)


class XBlock(nn.Module):
    """A bottleneck beside a path that changes the number of channels and averages; with `pool_first` the other way round."""

    def __init__(self, inner: int, width: int, outer: int, kernel: int, stride: int, pool_first: bool = False) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv_layer(inner, width, 1),
            conv_layer(width, width, kernel, stride),
            conv_layer(width, outer, 1, active=False, norm_scale=0.0),
        )
        path: list[nn.Module] = [conv_layer(inner, outer, 1, active=False)] if inner != outer else []
        path += [nn.AvgPool1d(2, ceil_mode=True)] if stride > 1 else []
        self.idpath = nn.Sequential(*(path[::-1] if pool_first else path))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outer, ceil(N / stride))."""
        return F.relu(self.convs(x) + self.idpath(x))


def xresnet_layers(leads: int, widths: tuple[int, ...] = (64,) * 4, *, pool_first: bool = False) -> list[nn.Module]:
    """Return the stem and the stages of an xresnet of 101 layers; a stage of `widths` w has w and 4 w channels."""
    blocks, kernel = (3, 4, 23, 3), 5
    sizes = (leads, 32, 32, 64)
    layers: list[nn.Module] = [conv_layer(a, b, kernel, 2 if i == 0 else 1) for i, (a, b) in enumerate(pairwise(sizes))]
    layers.append(nn.MaxPool1d(3, 2, 1))
    inner = 64
    for stage, (num, width) in enumerate(zip(blocks, widths, strict=True)):
        first = XBlock(inner, width, 4 * width, kernel, 1 if stage == 0 else 2, pool_first)
        inner = 4 * width
        layers.append(nn.Sequential(first, *(XBlock(inner, width, inner, kernel, 1) for _ in range(num - 1))))
    return layers


# ---------------------------------------------------------------------------------------------------------------- inception1d


class InceptionBlock(nn.Module):
    """Convolutions of three lengths behind a bottleneck, and a pooled branch, side by side."""

    def __init__(self, inner: int, width: int, kernel: int) -> None:
        super().__init__()
        lengths = [length - 1 if length % 2 == 0 else length for length in (kernel, kernel // 2, kernel // 4)]
        self.bottleneck = nn.Conv1d(inner, width, 1, bias=False)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, length, padding=length // 2, bias=False) for length in lengths)
        self.conv_bottle = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(inner, width, 1, bias=False))
        self.bn_relu = nn.Sequential(nn.BatchNorm1d(4 * width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 4 width, N)."""
        narrow = self.bottleneck(x)
        out: Tensor = self.bn_relu(torch.cat([*(conv(narrow) for conv in self.convs), self.conv_bottle(x)], dim=1))
        return out


class Shortcut(nn.Module):
    """A convolution with a batch norm, added to what went around it."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inner, outer, 1, bias=False)
        self.bn = nn.BatchNorm1d(outer)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Return (B, outer, N)."""
        return F.relu(after + self.bn(self.conv(before)))


class InceptionBackbone(nn.Module):
    """Six inception blocks; a shortcut spans every three."""

    def __init__(self, leads: int, depth: int = 6, width: int = 32, kernel: int = 40) -> None:
        super().__init__()
        self.im = nn.ModuleList(InceptionBlock(leads if i == 0 else 4 * width, width, kernel) for i in range(depth))
        self.sk = nn.ModuleList(Shortcut(leads if i == 0 else 4 * width, 4 * width) for i in range(depth // 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature map (B, C, N)."""
        before = x
        for index, block in enumerate(self.im):
            x = block(x)
            if index % 3 == 2:
                x = self.sk[index // 3](before, x)
                before = x
        return x


# ----------------------------------------------------------------------------------------------------------- Wang's network


class WangBlock(nn.Module):
    """Three convolutions of 8, 5 and 3 samples beside a shortcut, which is a batch norm where the channels stay."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        lengths = ((inner, 8), (outer, 5), (outer, 3))
        self.convs = nn.ModuleList(
            nn.Sequential(nn.ConstantPad1d(((length - 1) // 2, length // 2), 0.0), nn.Conv1d(width, outer, length, bias=False))
            for width, length in lengths
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(outer) for _ in lengths)
        widen = nn.Conv1d(inner, outer, 1, bias=False) if inner != outer else nn.Identity()
        self.shortcut = nn.Sequential(widen, nn.BatchNorm1d(outer))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outer, N)."""
        out = x
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            out = norm(conv(out))
            if index < 2:
                out = F.relu(out)
        return F.relu(out + self.shortcut(x))


# ------------------------------------------------------------------------------------------------------------------- models


class ConcatPool(nn.Module):
    """The maximum over time beside the mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 2 C) of a feature map (B, C, N)."""
        return torch.cat([x.amax(dim=-1), x.mean(dim=-1)], dim=1)


def head(width: int, classes: int, hidden: int = 128, dropout: float = 0.5) -> list[nn.Module]:
    """Return the published head, in its numbering: pool, two batch norms with dropout, two linear layers."""
    first = [ConcatPool(), nn.Identity(), nn.BatchNorm1d(2 * width), nn.Dropout(dropout / 2), nn.Linear(2 * width, hidden)]
    return [*first, nn.ReLU(), nn.BatchNorm1d(hidden), nn.Dropout(dropout), nn.Linear(hidden, classes)]


class Reference(mb.ECGEncoder):
    """Convolutional layers and the published head; `embedding` and `rhythm` are the pooled feature map, before the head."""

    spec = SPEC

    def __init__(self, body: list[nn.Module], width: int, classes: int, corpora: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.width, self.corpora = width, corpora
        self.layers = nn.Sequential(*body, nn.Sequential(*head(width, classes)))
        self.layers[-1].requires_grad_(False)  # features do not read it

    @property
    def record_width(self) -> int:
        """Channels of the pooled feature map."""
        return 2 * self.width

    @property
    def embedding_width(self) -> int:
        """Channels of the pooled feature map."""
        return 2 * self.width

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features: tokens are the positions of the feature map."""
        feature_map = self.layers[:-1](signal)  # (B, C, N)
        pooled = ConcatPool()(feature_map)
        return mb.Features(record=pooled, embedding=pooled, tokens=feature_map.transpose(1, 2))

    def logits(self, signal: Tensor) -> Tensor:
        """Return the logits (B, K) of signals of any length."""
        out: Tensor = self.layers(signal)
        return out

    def record_logits(self, signal: Tensor) -> Tensor:
        """Return the largest logits (B, K) over crops of 2.5 s, as the benchmark tests records."""
        crops = signal.unfold(-1, CROP, CROP_STEP).transpose(1, 2)  # (B, crops, L, 250)
        logits = self.logits(crops.flatten(0, 1))
        return logits.reshape(len(signal), crops.shape[1], -1).amax(dim=1)


def xresnet1d101(*, classes: int = 71) -> Reference:
    """Return xresnet1d101."""
    return Reference(xresnet_layers(len(SPEC.leads)), 256, classes, CORPORA)


def inception1d(*, classes: int = 71) -> Reference:
    """Return inception1d."""
    return Reference([InceptionBackbone(len(SPEC.leads))], 128, classes, CORPORA)


def resnet1d_wang(*, classes: int = 71) -> Reference:
    """Return Wang's three residual blocks under the benchmark's head; the paper's own head is the mean alone."""
    return Reference([WangBlock(len(SPEC.leads), 64), WangBlock(64, 128), WangBlock(128, 128)], 128, classes)


def resnet1d(depth: int, *, classes: int = 71) -> Reference:
    """Return He's residual network of `depth` layers under the benchmark's head."""
    body = ResNet(depth, len(SPEC.leads))
    return Reference([body], body.width, classes)


# ------------------------------------------------------------------------------------------------- published files and hook


def _classes(last: str, shapes: Shapes) -> dict[str, Any]:
    if last not in shapes:
        raise mb.UserError(f"this checkpoint lacks {last!r}, the last layer of the head; the file is not whole")
    return {"classes": shapes[last][0]}


FILES = "the folder `output` of https://github.com/helme/ecg_ptbxl_benchmarking"
XRESNET = mb.Family(
    name="xresnet1d101",
    anchor="4.0.convs.0.0.weight",
    renames=(("*", "layers.*"),),
    tied=(("{}.{}.convpath.0.*", "{}.{}.convs.*"),),
    options=partial(_classes, "8.8.weight"),
    files=FILES,
)
INCEPTION = mb.Family(
    name="inception1d",
    anchor="layers.0.im.0.bottleneck.weight",
    options=partial(_classes, "layers.1.8.weight"),
    files=FILES,
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return the reference encoders."""
    wang, he = "https://arxiv.org/abs/1611.06455", "https://arxiv.org/abs/1512.03385"
    deep: list[mb.Entry[mb.ECGEncoder]] = [
        mb.Entry(name, partial(resnet1d, depth), f"{depth}-layer 1-D ResNet, plain", he, "MIT")
        for name, depth in (("resnet1d-18-plain", 18), ("resnet1d-34", 34), ("resnet1d-50", 50))
    ]
    return [
        mb.Entry(
            "xresnet1d101", xresnet1d101, "101-layer 1-D xresnet of PTB-XL's benchmark", PAPER, "GPL-3.0", published=XRESNET
        ),
        mb.Entry("inception1d", inception1d, "InceptionTime of PTB-XL's benchmark", PAPER, "GPL-3.0", published=INCEPTION),
        mb.Entry("resnet1d-wang", resnet1d_wang, "three residual blocks of Wang et al.", wang, "MIT"),
        *deep,
    ]
