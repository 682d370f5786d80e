"""wav2vec 2.0 for ECG: strided convolutions, convolutional positions, post-norm Transformer. Blocks that three families share.

Papers: Baevski et al. 2020 (arXiv 2006.11477); for ECG with CMSC and random lead masking, Oh et al. 2022 (arXiv 2203.06889).
Names of parameters are those of the published checkpoints (fairseq-signals, MIT). Written from the papers and parity data.
Shapes: B records, L leads, T samples, N tokens (T / 16), C = 256 local channels, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import melp_bench as mb
from melp_bench.published.family import Shapes, count_blocks

CONV_CHANNELS, HALVING = 256, (2, 2, 2, 2)  # for ECG each convolution has kernel and stride 2
MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")  # as MIMIC-IV-ECG has them


@dataclass(frozen=True)
class Size:
    """A published size."""

    layers: int
    width: int
    heads: int
    ffn: int


SIZES = {"small": Size(8, 768, 12, 3072), "base": Size(12, 768, 12, 3072), "large": Size(24, 1024, 16, 4096)}


class SamePad(nn.Module):
    """Cuts the one output that an even kernel with half padding gives too many, at the end."""

    def forward(self, x: Tensor) -> Tensor:
        """Return all but the last of x (B, D, N + 1)."""
        return x[..., :-1]


class ConvFeatureExtractor(nn.Module):
    """Convolutions without padding; group norm, one group per channel, after the first only."""

    def __init__(self, leads: int, channels: int, kernels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        inputs = [leads] + [channels] * (len(kernels) - 1)
        self.conv_layers = nn.ModuleList(
            _conv_layer(inner, channels, kernel, stride, norm=index == 0)
            for index, (inner, kernel, stride) in enumerate(zip(inputs, kernels, strides, strict=True))
        )

    def forward(self, signal: Tensor) -> Tensor:
        """Return local features (B, C, N) of signal (B, L, T)."""
        for layer in self.conv_layers:
            signal = layer(signal)
        return signal


def _conv_layer(inner: int, channels: int, kernel: int, stride: int, *, norm: bool) -> nn.Sequential:
    """Return one convolution; the identity stands where the published layer has its dropout, so that the norm is number 2."""
    conv = nn.Conv1d(inner, channels, kernel, stride=stride, bias=False)
    nn.init.kaiming_normal_(conv.weight)
    norms = [nn.GroupNorm(channels, channels)] if norm else []
    return nn.Sequential(conv, nn.Identity(), *norms, nn.GELU())


class ConvPositions(nn.Module):
    """Relative positions by a wide grouped convolution, weight-normed over its taps."""

    def __init__(self, width: int, *, kernel: int = 128, groups: int = 16) -> None:
        super().__init__()
        conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, std=(4 / (kernel * width)) ** 0.5)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.pos_conv = nn.Sequential(weight_norm(conv, dim=2), SamePad(), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to x (B, N, D)."""
        added: Tensor = self.pos_conv(x.transpose(1, 2))
        return added.transpose(1, 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate projections."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        for projection in (self.k_proj, self.v_proj, self.q_proj):
            nn.init.normal_(projection.weight, std=0.02)
            nn.init.zeros_(projection.bias)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return x (B, N, D) attended; `padding` (B, N) is True where a token is none."""
        q, k, v = (self._split(projection(x)) for projection in (self.q_proj, self.k_proj, self.v_proj))
        allowed = None if padding is None else ~padding[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, allowed, dropout_p=self.dropout if self.training else 0.0)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))  # (B, N, D)
        return out

    def weights(self, x: Tensor) -> Tensor:
        """Return the attention of x (B, N, D), averaged over heads: (B, N, N)."""
        q, k = self._split(self.q_proj(x)), self._split(self.k_proj(x))
        mean: Tensor = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).mean(1)
        return mean

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)  # (B, H, N, D / H)


class Layer(nn.Module):
    """Post-norm Transformer layer."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(size.width, size.heads, dropout)
        self.self_attn_layer_norm = nn.LayerNorm(size.width)
        self.fc1, self.fc2 = nn.Linear(size.width, size.ffn), nn.Linear(size.ffn, size.width)
        self.final_layer_norm = nn.LayerNorm(size.width)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.fc1, self.fc2):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return x (B, N, D) one layer on."""
        x = self.self_attn_layer_norm(x + self.dropout(self.self_attn(x, padding)))
        out: Tensor = self.final_layer_norm(x + self.dropout(self.fc2(F.gelu(self.fc1(x)))))
        return out


class Encoder(nn.Module):
    """Layer norm, then the post-norm layers."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(size, dropout) for _ in range(size.layers))
        self.layer_norm = nn.LayerNorm(size.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return context (B, N, D); padded tokens are zeroed before the first norm and attended by none."""
        if padding is not None:
            x = x.masked_fill(padding[..., None], 0.0)
        x = self.dropout(self.layer_norm(x))
        for layer in self.layers:
            x = layer(x, padding)
        return x


class Wav2Vec2(nn.Module):
    """The backbone: `local_features`, then `positioned`, then `encoder`.

    Masked prediction needs the first two apart: its targets are the local features, its input has some of them replaced.
    """

    def __init__(
        self,
        size: Size,
        *,
        leads: int = 12,
        dropout: float = 0.1,
        channels: int = CONV_CHANNELS,
        kernels: Sequence[int] = HALVING,
        strides: Sequence[int] = HALVING,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(size, dropout)
        self.feature_extractor = ConvFeatureExtractor(leads, channels, kernels, strides)
        self.post_extract_proj = nn.Linear(channels, size.width)
        self.conv_pos = ConvPositions(size.width)
        self.layer_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def local_features(self, signal: Tensor) -> Tensor:
        """Return normed local features (B, N, C) of signal (B, L, T)."""
        return self.normed(self.convolved(signal))

    def convolved(self, signal: Tensor) -> Tensor:
        """Return local features (B, N, C) as the convolutions give them; masked prediction keeps them small."""
        convolved: Tensor = self.feature_extractor(signal).transpose(1, 2)
        return convolved

    def normed(self, convolved: Tensor) -> Tensor:
        """Return local features (B, N, C), normed over channels."""
        local: Tensor = self.layer_norm(convolved)
        return local

    def positioned(self, local: Tensor, masked: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        """Return tokens with positions (B, N, D) of local (B, N, C); `stand_in` (D,) or 0 stands where `masked` is True."""
        x: Tensor = self.dropout(self.post_extract_proj(local))
        if masked is not None:
            x = torch.where(masked[..., None], 0.0 if stand_in is None else stand_in.to(x.dtype), x)
        positioned: Tensor = x + self.conv_pos(x)
        return positioned

    def contextual(self, local: Tensor, masked: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        """Return context (B, N, D) of local features (B, N, C); without a stand-in, those masked are left out."""
        absent = masked if stand_in is None else None
        context: Tensor = self.encoder(self.positioned(local, masked, stand_in), absent)
        return context if absent is None else context.masked_fill(absent[..., None], 0.0)

    def forward(self, signal: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return tokens (B, N, D) of signal (B, L, T); `padding` (B, T) is True where a sample is none; such tokens are 0."""
        if padding is None:
            return self.contextual(self.local_features(signal))
        absent = padded_tokens(padding)
        x: Tensor = self.encoder(self.positioned(self.local_features(signal)), absent)
        return x.masked_fill(absent[..., None], 0.0)


class BackboneMasking:
    """Masked encoding by the backbone that `wav2vec2` returns, its convolutions' output as local features."""

    local_width, token_rows, separators = CONV_CHANNELS, 1, 0

    def wav2vec2(self) -> Wav2Vec2:
        """Return the backbone."""
        raise NotImplementedError

    @property
    def context_width(self) -> int:
        """Channels of the backbone's tokens."""
        return self.wav2vec2().post_extract_proj.out_features

    def local(self, signal: Tensor) -> Tensor:
        """Return local features (B, N, C) of signal (B, L, T)."""
        return self.wav2vec2().convolved(signal)

    def normed(self, local: Tensor) -> Tensor:
        """Return local features (B, N, C), normed: the targets, and the input of `contextual`."""
        return self.wav2vec2().normed(local)

    def contextual(self, normed: Tensor, masked: Tensor, stand_in: Tensor | None) -> Tensor:
        """Return context (B, N, D) of local features (B, N, C), those `masked` (B, N) replaced or left out."""
        return self.wav2vec2().contextual(normed, masked, stand_in)


def padded_tokens(padding: Tensor) -> Tensor:
    """Return which tokens are padding (B, N), given which samples are (B, T)."""
    halvings = math.prod(HALVING)
    real = (~padding).sum(1, keepdim=True) // halvings  # (B, 1)
    absent: Tensor = torch.arange(padding.shape[1] // halvings, device=padding.device) >= real
    return absent


def mean_of_nonzero(tokens: Tensor) -> Tensor:
    """Return the mean (B, D) of tokens (B, N, D) over the entries that are not 0, channel by channel, as published."""
    return tokens.sum(1) / (tokens != 0).sum(1)


UNUSED = (
    ("mask_emb", "masked prediction's; the objective `masked` has its own"),
    ("quantizer.*", "masked prediction's; the objective `masked` has its own"),
    ("project_q.*", "masked prediction's; the objective `masked` has its own"),
    ("final_proj.*", "masked prediction's; the objective `masked` has its own"),
)
"""What pretraining leaves in a backbone's checkpoint: published template and why an encoder has no use for it."""

MELP_UNUSED = (
    *((f"ecg_encoder.{template}", reason) for template, reason in UNUSED),
    ("logit_scale", "the contrast's temperature in stage 1; objectives have their own"),
    ("bn.*", "a batch norm that the published model never applies"),
    ("head.*", "a linear head that features do not read"),
)
"""The same of MELP's class around a backbone, in its first stage and its second."""


def size_of(shapes: Shapes, layer: str, sizes: Mapping[str, Size] = SIZES) -> dict[str, Any]:
    """Return the option `size` of a published file; `layer` is the template of a key that each layer has once.

    Raises:
        UserError: no published size has so many layers.
    """
    depth = count_blocks(shapes, layer)
    for name, size in sizes.items():
        if size.layers == depth:
            return {"size": name}
    known = ", ".join(str(size.layers) for size in sizes.values())
    raise mb.UserError(f"this checkpoint has {depth} layers; known sizes have {known}")
