"""CRT: drop most of a record in time and in frequency, and rebuild both from what is left of both.

Paper: Self-Supervised Time Series Representation Learning via Cross Reconstruction Transformer, Zhang et al. 2023,
    https://arxiv.org/abs/2205.09928. Written from the paper; the numbers are its authors'.
As published: magnitude and phase are cut into half as many patches as the record has, dropped together; the share that is
dropped grows with training; the mean squared error is over all patches, half of it the time's; the discrimination
constraint, weighted 1e-4, keeps each token apart from what others of its record became. Differs so that any encoder
with masked encoding can be trained: the encoder sees the patches of time that are left, and spectral ones join it in the
reconstructing transformer, which belongs to the objective; records are standardised and magnitudes are logarithms.
Shapes: B records, L leads, T samples, F frequencies, N tokens of the encoder, Q spectral patches, M = N + 2 Q, D channels.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.masking import without_separators
from melp_plugins.ecg.prenorm_block import PreNormBlock
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.row_decoder import NEEDS, row_length, smallest_stay, stretches, stretches_of_rows

STEADY = 1e-6  # beside a record's standard deviation
ROUNDING = 1e-6  # 0.7 x 10 is 7


def spectrum(signal: Tensor) -> tuple[Tensor, Tensor]:
    """Return log(1 + magnitude) and phase / pi (B, L, F) of `signal` (B, L, T) at F = T / 2 frequencies above 0."""
    found = torch.fft.rfft(signal, norm="ortho")[..., 1 : 1 + signal.shape[-1] // 2]
    return found.abs().log1p(), found.angle() / math.pi


def discrimination(before: Tensor, after: Tensor, seen: Tensor) -> Tensor:
    """Return the mean over records of ln of the sum, over tokens i and others j that are `seen` (B, M), of exp(cos(i, j)).

    Token i is one of `before`, j of `after` (B, M, D).
    """
    cosine = F.normalize(before, dim=-1) @ F.normalize(after, dim=-1).transpose(1, 2)  # (B, M, M)
    pairs = seen[:, :, None] & seen[:, None] & ~torch.eye(seen.shape[1], dtype=torch.bool, device=seen.device)
    return cosine.masked_fill(~pairs, float("-inf")).flatten(1).logsumexp(dim=1).mean()


def kept_of(places: int, share: float) -> int:
    """Return how many places are left when a share of them is dropped, rounded up: one at least."""
    return places - int(share * places + ROUNDING)


class CRT(mb.Objective):
    """The error of rebuilding time, magnitude and phase, and the discrimination constraint.

    How much is dropped changes with training, so that losses of two steps cannot be compared: the last weights are kept.
    """

    scale: ClassVar[str] = "signal"
    keep: ClassVar[Literal["lowest", "last"]] = "last"

    def __init__(self, *, least: float, most: float, width: int, depth: int, heads: int, discrimination_weight: float) -> None:
        super().__init__()
        self.least, self.most, self.width, self.weight = least, most, width, discrimination_weight
        self.absent = nn.Parameter(0.02 * torch.randn(3, width))
        self.kind = nn.Parameter(0.02 * torch.randn(3, width))
        self.blocks = nn.Sequential(*(PreNormBlock(width, heads, width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.before, self.after = nn.Linear(width, width), nn.Linear(width, width)

    def fits(self, encoder: mb.ECGEncoder) -> str | None:
        """Return why patches of this encoder cannot be dropped and rebuilt, or None."""
        if not isinstance(encoder, mb.MaskedEncoding):
            return NEEDS
        if encoder.token_rows not in (1, len(encoder.spec.leads)):
            return f"rebuilds rows of one lead or of all, and the encoder has {encoder.token_rows} rows of tokens"
        places = row_length(encoder)
        return f"needs four places to drop some of, and the encoder has {places} in a row" if places < 4 else None

    def attach(self, model: mb.PretrainingModel) -> None:
        """Build what depends on the encoder's tokens.

        Raises:
            NotApplicable: the encoder does not fit.
        """
        encoder = model.encoder
        if (reason := self.fits(encoder)) is not None or not isinstance(encoder, mb.MaskedEncoding):
            raise mb.NotApplicable(reason or NEEDS)
        self.places, self.rows, leads = row_length(encoder), encoder.token_rows, len(encoder.spec.leads)
        self.spectral = self.places // 2
        time = -(-encoder.spec.samples // self.places) * leads // self.rows
        frequency = -(-(encoder.spec.samples // 2) // self.spectral) * leads
        self.positions = nn.Parameter(0.02 * torch.randn(self.rows * self.places + 2 * self.spectral, self.width))
        self.embed = nn.ModuleList(nn.Linear(size, self.width) for size in (encoder.context_width, frequency, frequency))
        self.rebuild = nn.ModuleList(nn.Linear(self.width, size) for size in (time, frequency, frequency))

    def forward(self, signal: Tensor, encoder: mb.MaskedEncoding, progress: float) -> Tensor:
        """Return the loss with patches dropped at random: a share of them that grows with the share of the steps done."""
        share = min(max(progress, self.least), self.most)
        device, batch = signal.device, len(signal)
        time = smallest_stay(torch.rand(batch, self.rows, self.places, device=device), kept_of(self.places, share))
        spectral = smallest_stay(torch.rand(batch, self.spectral, device=device), kept_of(self.spectral, share))
        return self.loss(signal, encoder, time.flatten(1), spectral)

    def loss(self, signal: Tensor, encoder: mb.MaskedEncoding, time: Tensor, spectral: Tensor) -> Tensor:
        """Return the loss with tokens `time` (B, N) and frequencies `spectral` (B, Q) dropped where True."""
        states = without_separators(encoder.contextual(encoder.normed(encoder.local(signal)), time, None), encoder)
        patches = self.patches(at_least_float32(signal))
        dropped = (time, spectral, spectral)
        given = [embed(part) for embed, part in zip(self.embed, (states, *patches[1:]), strict=True)]
        seen = [torch.where(hidden[..., None], self.absent[i], given[i]) + self.kind[i] for i, hidden in enumerate(dropped)]
        rebuilt = self.norm(self.blocks(torch.cat(seen, dim=1) + self.positions))  # (B, M, D)
        parts = rebuilt.split([part.shape[1] for part in given], dim=1)
        errors = [F.mse_loss(make(part), wanted) for make, part, wanted in zip(self.rebuild, parts, patches, strict=True)]
        left = ~torch.cat(dropped, dim=1)  # (B, M)
        apart = discrimination(self.before(torch.cat(given, dim=1)), self.after(rebuilt), left)
        return errors[0] / 2 + (errors[1] + errors[2]) / 4 + self.weight * apart

    def patches(self, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return patches of the standardised record, of its magnitudes and of its phases: (B, N, S), twice (B, Q, S')."""
        spread, mean = torch.std_mean(signal, dim=(1, 2), keepdim=True)
        standard = (signal - mean) / (spread + STEADY)
        time = stretches_of_rows(standard, self.places, self.rows).flatten(1, 2)  # (B, N, S)
        of_leads = [stretches(part, self.spectral).transpose(1, 2).flatten(2) for part in spectrum(standard)]
        return time, of_leads[0], of_leads[1]


def crt(
    sizes: mb.Sizes,
    *,
    least: float = 0.3,
    most: float = 0.7,
    width: int = 128,
    depth: int = 2,
    heads: int = 8,
    discrimination_weight: float = 1e-4,
) -> CRT:
    """Return CRT, which drops a share of the patches that is the share of steps done, from `least` to `most`.

    Raises:
        UserError: an option is out of its range.
    """
    if not 0 < least <= most < 1 or min(width, depth, heads) < 1 or discrimination_weight < 0:
        raise mb.UserError(
            f"'crt' with least {least}, most {most}, width {width}, depth {depth}, heads {heads}, discrimination_weight "
            f"{discrimination_weight}; wanted 0 < least <= most < 1, one of each at least, and a weight of at least 0"
        )
    return CRT(least=least, most=most, width=width, depth=depth, heads=heads, discrimination_weight=discrimination_weight)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer CRT."""
    return [
        mb.Entry(
            name="crt",
            build=crt,
            summary="rebuild a record in time and frequency from what is left of both (CRT)",
            source="https://arxiv.org/abs/2205.09928",
            license="MIT",
        )
    ]
