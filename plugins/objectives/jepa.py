"""ECG-JEPA: predict what a slowly following target makes of the masked tokens, from those that are seen; no signal is rebuilt.

Paper: Learning General Representation of 12-Lead Electrocardiogram with a Joint-Embedding Predictive Architecture, Kim 2024,
    https://arxiv.org/abs/2410.08559; after I-JEPA, Assran et al. 2023 (arXiv 2301.08243).
Written from the paper and parity data; the predictor's parameters have the published names.
As published: the same stretches of time are masked in all leads; targets are the target encoder's tokens of the whole record,
layer-normed without weights; a narrow predictor sees one lead at a time, and is told the positions again before every block;
smooth L1. The published encoder is `ecg-jepa`; here it is any with masked encoding.
Shapes: B records, L leads, T samples, R rows of tokens, P places of a row, D channels, E of the predictor.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.masking import in_rows, without_separators
from melp_plugins.ecg.ecg_jepa import place_table
from melp_plugins.ecg.vit_block import PlacedBlocks
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.row_decoder import NEEDS, row_length, smallest_stay


class RowPredictor(nn.Module):
    """A narrow transformer that sees one row of tokens at a time, a learned vector standing where one was left out."""

    def __init__(self, encoder: mb.MaskedEncoding, places: int, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.separators = encoder.separators
        self.predictor_embed = nn.Linear(encoder.context_width, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(
            F.pad(place_table(1, places, width), (0, 0, self.separators, self.separators)), requires_grad=False
        )
        self.predictor_blocks = PlacedBlocks(width, heads, depth)
        self.predictor_norm = nn.LayerNorm(width)
        self.predictor_proj = nn.Linear(width, encoder.context_width)

    def forward(self, states: Tensor, masked: Tensor) -> Tensor:
        """Return (B, R, P, D) of the encoder's states (B, R, P, D), between separators if it has any; `masked` is (B, R, P)."""
        x = self.predictor_embed(states)  # (B, R, P + 2, E)
        hidden = F.pad(masked, (self.separators, self.separators))
        x = torch.where(hidden[..., None], self.mask_token, x).flatten(0, 1)  # (B R, P + 2, E)
        x = self.predictor_norm(self.predictor_blocks(x, self.pos_embed))
        out: Tensor = self.predictor_proj(x[:, self.separators : x.shape[1] - self.separators])
        return out.reshape(*masked.shape, -1)


class JEPA(mb.Objective):
    """Smooth L1 distance of predicted tokens from the target's, on masked places.

    A low loss is no sign of a good encoder, which only a collapsed one would reach at once: the last weights are kept.
    """

    scale: ClassVar[str] = "signal"
    keep: ClassVar[Literal["lowest", "last"]] = "last"
    target_encoder: mb.ECGEncoder
    predictor: RowPredictor

    def __init__(self, *, share: tuple[float, float], blocks: int, width: int, depth: int, heads: int, momentum: float) -> None:
        super().__init__()
        self.share, self.blocks, self.momentum = share, blocks, momentum
        self.width, self.depth, self.heads = width, depth, heads

    def fits(self, encoder: mb.ECGEncoder) -> str | None:
        """Return why masked tokens of this encoder cannot be predicted, or None."""
        if not isinstance(encoder, mb.MaskedEncoding):
            return NEEDS
        if encoder.separators > 1:
            return f"predicts rows of tokens with one separator at each end, and the encoder has {encoder.separators}"
        places = row_length(encoder)
        most = round(self.share[1] * places) * max(self.blocks, 1)
        return f"may mask {most} of the encoder's {places} places, and leave none" if most >= places else None

    def attach(self, model: mb.PretrainingModel) -> None:
        """Begin with a target that is the encoder, and build the predictor for its tokens.

        Raises:
            NotApplicable: the encoder does not fit.
        """
        encoder = model.encoder
        if (reason := self.fits(encoder)) is not None or not isinstance(encoder, mb.MaskedEncoding):
            raise mb.NotApplicable(reason or NEEDS)
        self.places, self.rows = row_length(encoder), encoder.token_rows
        self.predictor = RowPredictor(encoder, self.places, width=self.width, depth=self.depth, heads=self.heads)
        self.target_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.followed = (self.target_encoder, encoder)

    def forward(self, signal: Tensor, encoder: mb.MaskedEncoding) -> tuple[Tensor, Tensor]:
        """Return the loss under a mask drawn at random, its mean over masked tokens, and their number."""
        mask = self.draw(len(signal), signal.device)[:, None].expand(-1, self.rows, -1)  # (B, R, P)
        return self.loss(signal, encoder, mask), mask.sum()

    def draw(self, records: int, device: torch.device) -> Tensor:
        """Return which places of time are masked (B, P): a share of them anywhere, or the union of blocks, the same for all."""
        low, high = self.share
        if not self.blocks:
            masked = max(round((low + (high - low) * torch.rand(()).item()) * self.places), 1)
            return smallest_stay(torch.rand(records, self.places, device=device), self.places - masked)
        places, mask = torch.arange(self.places, device=device), torch.zeros(self.places, dtype=torch.bool, device=device)
        for _ in range(self.blocks):
            length = max(round((low + (high - low) * torch.rand(()).item()) * self.places), 1)
            first = int(torch.randint(0, self.places - length + 1, ()))
            mask |= (places >= first) & (places < first + length)
        return mask.expand(records, -1)

    def loss(self, signal: Tensor, encoder: mb.MaskedEncoding, mask: Tensor) -> Tensor:
        """Return the loss with `mask` (B, R, P) True where a token is to be predicted."""
        normed = encoder.normed(encoder.local(signal))
        states = in_rows(encoder.contextual(normed, mask.flatten(1), None), encoder)
        predicted, wanted = self.predictor(states, mask), self.targets(signal)  # (B, R, P, D)
        with torch.autocast(predicted.device.type, enabled=False):
            return F.smooth_l1_loss(at_least_float32(predicted[mask]), wanted[mask])

    @torch.no_grad()
    def targets(self, signal: Tensor) -> Tensor:
        """Return the target encoder's tokens (B, R, P, D) of the whole record, each of mean 0 and variance 1."""
        target = self.target_encoder
        if not isinstance(target, mb.MaskedEncoding):
            raise mb.NotApplicable(NEEDS)
        normed = target.normed(target.local(signal))
        nothing = torch.zeros(normed.shape[:2], dtype=torch.bool, device=normed.device)
        tokens = in_rows(without_separators(target.contextual(normed, nothing, None), target), target)
        return F.layer_norm(at_least_float32(tokens), tokens.shape[-1:])

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Let the target follow by an exponential moving average that keeps more and more: linearly from `momentum` to all."""
        kept = 1 - (1 - self.momentum) * (1 - progress)
        target, encoder = self.followed
        for slow, fast in zip(target.parameters(), encoder.parameters(), strict=True):
            slow.lerp_(fast, 1 - kept)


def jepa(
    sizes: mb.Sizes,
    *,
    share: tuple[float, ...] = (0.6, 0.7),
    blocks: int = 0,
    predictor_width: int = 384,
    predictor_depth: int = 6,
    predictor_heads: int = 12,
    momentum: float = 0.996,
) -> JEPA:
    """Return ECG-JEPA as published with random masking; with multi-block masking `blocks` is 4 and `share` (0.175, 0.225).

    `share` is how much of the time is masked, from and to; with blocks, how much each of them masks.

    Raises:
        UserError: an option is out of its range.
    """
    if len(share) != 2 or not 0 < share[0] <= share[1] < 1 or not 0 <= momentum <= 1 or blocks < 0:
        raise mb.UserError(
            f"'jepa' with share {share}, blocks {blocks}, momentum {momentum}; wanted two ascending shares between 0 and 1, "
            "no or some blocks, and a momentum from 0 to 1"
        )
    if min(predictor_width, predictor_depth, predictor_heads) < 1 or predictor_width % predictor_heads or predictor_width % 4:
        raise mb.UserError(
            f"'jepa' with predictor_width {predictor_width}, predictor_depth {predictor_depth}, predictor_heads "
            f"{predictor_heads}; wanted one block and one head at least, and a width that 4 and the heads divide"
        )
    return JEPA(
        share=(share[0], share[1]),
        blocks=blocks,
        width=predictor_width,
        depth=predictor_depth,
        heads=predictor_heads,
        momentum=momentum,
    )


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer ECG-JEPA."""
    return [
        mb.Entry(
            name="jepa",
            build=jepa,
            summary="predict a slowly following target's tokens where the record is masked (ECG-JEPA)",
            source="https://arxiv.org/abs/2410.08559",
            license="MIT",
        )
    ]
