"""Convolutional transformer with learned beat queries: MELP's encoder at any size.

Papers: From Token to Rhythm (MELP), Wang et al. 2025, https://arxiv.org/abs/2506.21803; wav2vec 2.0, Baevski et al. 2020;
    Lead-agnostic self-supervised learning for ECG (wav2vec2-CMSC), Oh et al. 2022.
Written from the papers; differs by default in its sizes, in wider kernels, in pre-norm layers, and in batch normalisation:
on a few thousand records it learns several times faster than the published normalisation over time of the first convolution
(`extractor_norm="group"`), and unlike that it keeps the amplitude that voltage criteria read. It reads each lead twice, as it
is and companded, and has a token every 0.16 s: so P waves and PR intervals are learned, too (docs/synthetic-corpus.md).
What probes read is the mean of the layer-normed beat queries, before any contrast projection.
Shapes: B records, L leads, T samples, N tokens, D channels of a token, Q queries, P channels of a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import melp_bench as mb
from melp_plugins.layers import EncoderLayer, QueryPool, convolve, sample_by_sample


class Extractor(nn.Module):
    """Strided convolutions with GELU. `norm` is "batch" (each), "group" (the first, over time, as published) or "none".

    With `companding_mv` each lead is read twice, as it is and as asinh(x / companding_mv): a P wave a tenth as high as the QRS
    is then a third as high, and convolutions find it sooner.
    """

    def __init__(
        self,
        *,
        leads: int,
        channels: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
        norm: str,
        companding_mv: float = 0.0,
    ) -> None:
        super().__init__()
        self.companding_mv = companding_mv
        inputs = (2 * leads if companding_mv else leads, *channels[:-1])
        first = "batch" if norm == "batch" else norm
        later = "batch" if norm == "batch" else "none"
        norms = [first] + [later] * (len(channels) - 1)
        self.width = channels[-1]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(i, o, k, stride=s, padding=k // 2 if norm == "batch" else 0, bias=n == "none")
            for i, o, k, s, n in zip(inputs, channels, kernels, strides, norms, strict=True)
        )
        self.norms = nn.ModuleList(_norm(n, o) for n, o in zip(norms, channels, strict=True))
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.weight)  # type: ignore[arg-type]  # a convolution's weight is a tensor

    def forward(self, signal: Tensor) -> Tensor:
        """Return (B, N, C) for `signal` (B, L, T)."""
        x = torch.cat([signal, companded(signal, self.companding_mv)], dim=1) if self.companding_mv else signal
        x = sample_by_sample(x)  # (B, L, 1, T)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolve(cast("nn.Conv1d", convolution), x)))
        return x.squeeze(2).transpose(1, 2)


def companded(signal: Tensor, millivolts: float) -> Tensor:
    """Return asinh(signal / `millivolts`), written out as what is vectorised on a CPU: a quarter of the time."""
    size = (signal / millivolts).abs()
    return signal.sign() * torch.log1p(size + size.square() / (1 + (1 + size.square()).sqrt()))


def _norm(name: str, channels: int) -> nn.Module:
    if name == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(channels, channels) if name == "group" else nn.Identity()


class ConvolutionalPositions(nn.Module):
    """A wide grouped convolution over the tokens, weight-normed per tap, that tells a token where it is."""

    def __init__(self, *, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(convolution.weight, std=(4 / (kernel * width)) ** 0.5)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # the layer has a bias
        self.convolution = weight_norm(convolution, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, N, D) for `x` (B, N, D); an even kernel's surplus last position is cut."""
        positions = convolve(self.convolution, x.transpose(1, 2)[:, :, None])[..., : x.shape[1]]  # (B, D, 1, N)
        return F.gelu(positions.squeeze(2).transpose(1, 2))


class ConvTransformer(mb.ECGEncoder):
    """Extractor, projection, convolutional positions, transformer layers, queries. It offers masked encoding."""

    token_rows, separators = 1, 0

    def __init__(
        self,
        spec: mb.SignalSpec,
        extractor: Extractor,
        positions: ConvolutionalPositions,
        layers: nn.ModuleList,
        pool: QueryPool,
        *,
        dropout: float,
        norm_first: bool,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.width, self._pool_width = pool.norm_context.normalized_shape[0], pool.query.shape[1]
        self.extractor, self.positions, self.layers, self.pool = extractor, positions, layers, pool
        self.norm_features, self.project = nn.LayerNorm(extractor.width), nn.Linear(extractor.width, self.width)
        self.norm = nn.LayerNorm(self.width)
        self.dropout, self.norm_first = nn.Dropout(dropout), norm_first

    @property
    def record_width(self) -> int:
        """Channels of a query."""
        return self._pool_width

    @property
    def embedding_width(self) -> int:
        """Channels of a query: the embedding is the mean over queries."""
        return self._pool_width

    @property
    def local_width(self) -> int:
        """Channels of the last convolution."""
        return self.extractor.width

    @property
    def context_width(self) -> int:
        """Channels of a token."""
        return self.width

    def local(self, signal: Tensor) -> Tensor:
        """Return the convolutions' output (B, N, C) for `signal` (B, L, T)."""
        convolved: Tensor = self.extractor(signal)
        return convolved

    def normed(self, local: Tensor) -> Tensor:
        """Return local features (B, N, C), normed over channels."""
        normed: Tensor = self.norm_features(local)
        return normed

    def contextual(self, normed: Tensor, masked: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        """Return tokens (B, N, D), those `masked` (B, N) replaced by `stand_in` (D,) or, without one, left out."""
        x: Tensor = self.project(normed)  # (B, N, D)
        absent = masked if stand_in is None else None
        if masked is not None:
            x = torch.where(masked[..., None], 0.0 if stand_in is None else stand_in.to(x.dtype), x)
        x = x + self.positions(x)
        x = self.dropout(x if self.norm_first else self.norm(x))
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=absent)
        x = self.norm(x) if self.norm_first else x
        return x if absent is None else x.masked_fill(absent[..., None], 0.0)

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of `signal` (B, L, T), of any length that gives a token."""
        tokens = self.contextual(self.normed(self.local(signal)))
        beats = self.pool(tokens)  # (B, Q, P)
        mean = beats.mean(dim=1)
        return mb.Features(record=mean, embedding=mean, segments=beats, tokens=tokens)


def conv_transformer(
    *,
    layers: int = 2,
    width: int = 128,
    heads: int = 4,
    mlp_ratio: float = 2.0,
    queries: int = 12,
    pool_width: int = 256,
    pool_heads: int = 4,
    channels: tuple[int, ...] = (32, 64, 64, 128),
    kernels: tuple[int, ...] = (9, 7, 5, 5),
    strides: tuple[int, ...] = (2, 2, 2, 2),
    position_kernel: int = 16,
    position_groups: int = 16,
    extractor_norm: str = "batch",
    companding_mv: float = 0.1,
    norm_first: bool = True,
    dropout: float = 0.0,
    rate_hz: float = 100.0,
    seconds: float = 10.0,
) -> ConvTransformer:
    """Return a convolutional transformer of the given sizes; `companding_mv` goes with normalisation by batch alone.

    Raises:
        UserError: sizes that do not divide, convolutions not fully described, or an unknown normalisation.
    """
    for name, size, parts in (
        ("width", width, heads), ("width", width, position_groups), ("pool_width", pool_width, pool_heads)
    ):  # fmt: skip
        if parts < 1 or size < 1 or size % parts:
            raise mb.UserError(f"{name} is {size}; wanted a positive multiple of {parts} (heads or groups)")
    if not len(channels) == len(kernels) == len(strides) > 0 or min(layers, queries, *channels, *kernels, *strides) < 1:
        raise mb.UserError(
            f"channels {channels}, kernels {kernels} and strides {strides}: wanted one of each per convolution, all positive"
        )
    if not companding_mv >= 0:
        raise mb.UserError(f"companding_mv is {companding_mv}; wanted 0 (none) or more")
    if extractor_norm not in ("batch", "group", "none"):
        raise mb.UserError(f"extractor_norm is {extractor_norm!r}; wanted 'batch', 'group' or 'none'")
    spec = mb.SignalSpec(rate_hz=rate_hz, seconds=seconds)
    return ConvTransformer(
        spec,
        Extractor(
            leads=len(spec.leads),
            channels=channels,
            kernels=kernels,
            strides=strides,
            norm=extractor_norm,
            companding_mv=companding_mv if extractor_norm == "batch" else 0.0,
        ),
        ConvolutionalPositions(width=width, kernel=position_kernel, groups=position_groups),
        nn.ModuleList(
            EncoderLayer(width, heads, round(mlp_ratio * width), dropout, norm_first=norm_first) for _ in range(layers)
        ),
        QueryPool(queries=queries, width=pool_width, context=width, heads=pool_heads),
        dropout=dropout,
        norm_first=norm_first,
    )


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Offer the convolutional transformer."""
    return [
        mb.Entry(
            name="conv-transformer",
            build=conv_transformer,
            summary="strided convolutions, transformer, learned beat queries (MELP's form)",
            source="https://arxiv.org/abs/2506.21803",
            license="MIT",
        )
    ]
