"""Transformer on patches of a record: of all leads at once, or of each lead by itself. Masked methods' encoder at any size.

Papers: An Image is Worth 16x16 Words (ViT), Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929; patches of single leads
    with lead embeddings as in ST-MEM, Na et al. 2024, https://arxiv.org/abs/2402.09450.
Written from the papers; differs in its sizes, a demo's by default, and in having neither a class token nor separators.
Patches keep their amplitude on the way in, which voltage criteria read. What probes read is the normalised mean over tokens.
Shapes: B records, L leads, T samples, R rows (L, or 1 where a patch is of all leads), P patches of a row, N = R P tokens, S
samples of a patch, of all leads of its row, K tokens that are seen, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.ecg.kept_tokens import Kept
from melp_plugins.layers import EncoderLayer


class PatchTransformer(mb.ECGEncoder):
    """Linear patches with positions and lead embeddings, pre-norm layers, the mean of tokens. It offers masked encoding."""

    separators = 0

    def __init__(
        self, spec: mb.SignalSpec, *, patch: int, per_lead: bool, width: int, layers: int, heads: int, mlp_ratio: float
    ) -> None:
        super().__init__()
        self.spec, self.width, self.patch = spec, width, patch
        self.token_rows = len(spec.leads) if per_lead else 1
        self.embed = nn.Linear(self.local_width, width)
        self.positions = nn.Parameter(0.02 * torch.randn(spec.samples // patch, width))
        self.rows = nn.Parameter(0.02 * torch.randn(self.token_rows, 1, width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, round(mlp_ratio * width)) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    @property
    def local_width(self) -> int:
        """Samples of a patch, of all leads of its row."""
        return self.patch * len(self.spec.leads) // self.token_rows

    @property
    def context_width(self) -> int:
        """Channels of a token."""
        return self.width

    def local(self, signal: Tensor) -> Tensor:
        """Return the patches (B, N, S) of `signal` (B, L, T), row by row."""
        cut = signal.unfold(-1, self.patch, self.patch)  # (B, L, P, samples)
        rows = cut.reshape(len(cut), self.token_rows, -1, *cut.shape[2:])  # (B, R, L / R, P, samples)
        patches: Tensor = rows.transpose(2, 3).flatten(3).flatten(1, 2)
        return patches

    def normed(self, local: Tensor) -> Tensor:
        """Return the patches as they are: amplitudes tell voltages."""
        return local

    def contextual(self, normed: Tensor, masked: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        """Return tokens (B, N, D), those `masked` (B, N) replaced by `stand_in` (D,) or, without one, left out.

        What is left out costs nothing: only tokens that are seen go through the layers.
        """
        x: Tensor = self.embed(normed)
        if masked is not None and stand_in is not None:
            x = torch.where(masked[..., None], stand_in.to(x.dtype), x)
        x = x + (self.rows + self.positions[: x.shape[1] // self.token_rows]).flatten(0, 1)
        if masked is None or stand_in is not None:
            return self._through(x, None)
        kept = Kept.of(x, masked)
        return kept.back(self._through(kept.tokens, kept.absent))

    def _through(self, x: Tensor, absent: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=absent)
        normed: Tensor = self.norm(x)
        return normed

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of `signal` (B, L, T)."""
        tokens = self.contextual(self.normed(self.local(signal)))
        mean = tokens.mean(dim=1)
        return mb.Features(record=mean, embedding=mean, tokens=tokens)


def patch_transformer(
    *,
    layers: int = 3,
    width: int = 128,
    heads: int = 4,
    mlp_ratio: float = 2.0,
    patch: int = 25,
    per_lead: bool = False,
    rate_hz: float = 100.0,
    seconds: float = 10.0,
) -> PatchTransformer:
    """Return a patch transformer of the given sizes; `patch` is in samples, of each lead by itself where `per_lead`.

    Raises:
        UserError: sizes that do not divide, or are not positive.
    """
    spec = mb.SignalSpec(rate_hz=rate_hz, seconds=seconds)
    if min(layers, width, heads, patch) < 1 or width % heads:
        raise mb.UserError(f"layers {layers}, width {width}, heads {heads}, patch {patch}: wanted a width that heads divide")
    if spec.samples % patch:
        raise mb.UserError(f"patch is {patch}; wanted a part of the record's {spec.samples} samples")
    return PatchTransformer(spec, patch=patch, per_lead=per_lead, width=width, layers=layers, heads=heads, mlp_ratio=mlp_ratio)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Offer the patch transformer."""
    return [
        mb.Entry(
            name="patch-transformer",
            build=patch_transformer,
            summary="transformer on patches of all leads, or of each lead, for masked methods",
            source="https://arxiv.org/abs/2010.11929",
            license="MIT",
        )
    ]
