"""What masked autoencoders and latent predictors share: from the visible tokens of a row to something at every place of it.

Papers: Masked Autoencoders Are Scalable Vision Learners, He et al. 2022 (arXiv 2111.06377); one row of tokens at a time as in
ST-MEM, Na et al. 2024 (arXiv 2402.09450), whose decoder gives the parameters their names.
Shapes: B records, L leads, T samples, R rows of tokens, P places of a row, S samples of a stretch, D channels of the encoder,
E of the decoder, O channels that come out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.ecg.prenorm_block import PreNormBlock
from melp_plugins.ecg.st_mem import sine_cosine_table

NORM_EPS = 1e-6  # of the last normalisation
NEEDS = "needs an encoder with masked encoding, such as 'patch-transformer', 'conv-transformer' or 'st-mem-base'"


class RowDecoder(nn.Module):
    """A transformer that sees one row of tokens at a time, a learned vector standing where one was left out."""

    def __init__(self, encoder: mb.MaskedEncoding, places: int, out: int, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.separators = encoder.separators
        self.mask_embedding = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.decoder_blocks = nn.Sequential(*(PreNormBlock(width, heads, 4 * width) for _ in range(depth)))
        self.decoder_norm = nn.LayerNorm(width, eps=NORM_EPS)
        table = sine_cosine_table(places, width)
        self.decoder_pos_embed = nn.Parameter(table if self.separators else table[:, 1:-1], requires_grad=False)
        self.to_decoder_embedding = nn.Linear(encoder.context_width, width)
        self.decoder_head = nn.Linear(width, out)

    def forward(self, states: Tensor, masked: Tensor) -> Tensor:
        """Return (B, R, P, O) of the encoder's states (B, R, P, D), between separators if it has any; `masked` is (B, R, P)."""
        x = self.to_decoder_embedding(states)  # (B, R, P + 2, E)
        hidden = nn.functional.pad(masked, (self.separators, self.separators))
        x = torch.where(hidden[..., None], self.mask_embedding, x) + self.decoder_pos_embed[:, None]
        x = self.decoder_norm(self.decoder_blocks(x.flatten(0, 1)))  # (B R, P + 2, E)
        out: Tensor = self.decoder_head(x[:, self.separators : x.shape[1] - self.separators])
        return out.reshape(*masked.shape, -1)


def row_length(encoder: mb.ECGEncoder) -> int:
    """Return how many tokens an encoder with masked encoding cuts of a row, read off one silent record."""
    spec, training, like = encoder.spec, encoder.training, next(encoder.parameters())
    encoder.eval()
    with torch.no_grad():
        silent = like.new_zeros(1, len(spec.leads), spec.samples)
        found = encoder.local(silent).shape[1] // encoder.token_rows if isinstance(encoder, mb.MaskedEncoding) else 0
    encoder.train(training)
    return found


def stretches(signal: Tensor, count: int) -> Tensor:
    """Return `count` stretches (B, L, P, S) of `signal` (B, L, T), equally long, evenly spread from first sample to last.

    They are its parts where T is a multiple of the count, and overlap by a few samples where it is not.
    """
    length = -(-signal.shape[-1] // count)
    starts = torch.linspace(0, signal.shape[-1] - length, count, dtype=torch.float64).round().long()
    places = starts[:, None] + torch.arange(length)
    return signal[..., places.to(signal.device)]


def stretches_of_rows(signal: Tensor, count: int, rows: int) -> Tensor:
    """Return the stretches of each row's leads together, (B, R, P, L / R x samples) of `signal` (B, L, T)."""
    cut = stretches(signal, count)  # (B, L, P, samples)
    return cut.reshape(len(cut), rows, -1, *cut.shape[2:]).transpose(2, 3).flatten(3)


def smallest_stay(noise: Tensor, kept: int) -> Tensor:
    """Return which places are masked, of the shape of `noise` (..., P): all but the `kept` of the smallest noise."""
    return noise.argsort(dim=-1).argsort(dim=-1) >= kept
