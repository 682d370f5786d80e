"""TS-TCC: one view's past predicts the other view's future, and the contexts of both find each other.

Paper: Time-Series Representation Learning via Temporal and Contextual Contrasting, Eldele et al. 2021,
https://arxiv.org/abs/2106.14112. Written from the paper; differs in that it reads the tokens of any encoder (where these have
seen the whole record, as a transformer's have, the future is no secret), in no dropout in the autoregressive model, and in that
the time from which is predicted is the same for all ranks: it is drawn from the share of the steps done.
Shapes: B records, N tokens, D channels of a token, H of a context, K steps ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.self_distillation import check_widths, perceptron
from melp_plugins.objectives.simclr import nt_xent
from melp_plugins.views.augmentation import STRONG, WEAK


class ContextTransformer(nn.Module):
    """Pre-norm layers over tokens and a learned context token, whose last state is the context."""

    def __init__(self, tokens: int, width: int, *, layers: int, heads: int) -> None:
        super().__init__()
        self.project, self.context = nn.Linear(tokens, width), nn.Parameter(0.02 * torch.randn(width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the context (B, H) of `tokens` (B, N, D), of which those where `real` (B, N) is True are there."""
        x = torch.cat([self.context.expand(len(tokens), 1, -1), self.project(tokens)], dim=1)  # (B, 1 + N, H)
        absent = F.pad(~real, (1, 0))
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=absent)
        return x[:, 0]


def drawn_time(progress: float, tokens: int, ahead: int) -> int:
    """Return the last token of the past, from which `ahead` of `tokens` are predicted: drawn, and alike on all ranks."""
    generator = torch.Generator().manual_seed(round(progress * 2**40))
    return int(torch.randint(tokens - ahead, (1,), generator=generator))


def temporal_contrast(predicted: Tensor, future: Tensor, real: Tensor) -> Tensor:
    """Return the cross entropy with which each prediction (B, K, D) finds its own among the batch's `future` (B, K, D).

    The mean over the predictions of tokens that are there, where `real` (B, K) is True; others' tokens that are not are no
    candidates.
    """
    logits = torch.einsum("bkd,nkd->kbn", predicted, future)  # (K, B, B)
    logits = logits.masked_fill(~real.T[:, None], torch.finfo(logits.dtype).min / 2)
    found = logits.log_softmax(dim=-1).diagonal(dim1=1, dim2=2)  # (K, B)
    return -(found * real.T).sum() / real.sum().clamp_min(1)


def tokens_of(view: mb.Features) -> tuple[Tensor, Tensor]:
    """Return the tokens (B, N, D) of a view, each of length 1 and 0 where there is none, and where there are any (B, N).

    Raises:
        NotApplicable: the encoder offers fewer than two tokens.
    """
    if view.tokens is None or view.tokens.shape[1] < 2:
        raise mb.NotApplicable("needs an encoder that offers tokens, two at least")
    tokens = at_least_float32(view.tokens)
    real = (
        torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if view.tokens_mask is None else view.tokens_mask
    )
    return F.normalize(tokens, dim=-1) * real.unsqueeze(-1), real


class TSTCC(mb.Objective):
    """Temporal contrasting across views in both directions, and contextual contrasting."""

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True

    def __init__(
        self,
        sizes: mb.Sizes,
        *,
        ahead: int,
        width: int,
        layers: int,
        heads: int,
        temperature: float,
        weights: tuple[float, float],
    ) -> None:
        super().__init__()
        self.ahead, self.temperature, self.weights = ahead, temperature, weights
        self.summarise = ContextTransformer(sizes.ecg_tokens, width, layers=layers, heads=heads)
        self.predict = nn.Linear(width, ahead * sizes.ecg_tokens)  # one map per step ahead
        self.project = perceptron(width, max(sizes.ecg_tokens // 2, 1), max(sizes.ecg_tokens // 4, 1))

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return a weak and a strong augmentation of a record."""
        return {"weak": WEAK, "strong": STRONG}

    def forward(self, weak: mb.Features, strong: mb.Features, progress: float) -> Tensor:
        """Return the loss of two views of the same records.

        Raises:
            NotApplicable: the encoder offers fewer than two tokens.
        """
        with torch.autocast(weak.embedding.device.type, enabled=False):
            first, second = tokens_of(weak), tokens_of(strong)
            ahead = min(self.ahead, first[0].shape[1] - 1)
            time = drawn_time(progress, first[0].shape[1], ahead)
            weak_loss, weak_context = self.foretold(*first, *second, time, ahead)
            strong_loss, strong_context = self.foretold(*second, *first, time, ahead)
            contextual = nt_xent(self.project(weak_context), self.project(strong_context), temperature=self.temperature)
            temporal, context = self.weights
            return temporal * (weak_loss + strong_loss) + context * contextual

    def foretold(
        self, own: Tensor, own_real: Tensor, other: Tensor, other_real: Tensor, time: int, ahead: int
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of predicting the `other` view's tokens after `time` from its `own` until then, and the context."""
        context = self.summarise(own[:, : time + 1], own_real[:, : time + 1])  # (B, H)
        predicted = self.predict(context).view(len(own), self.ahead, -1)[:, :ahead]  # (B, K, D)
        after = slice(time + 1, time + 1 + ahead)
        return temporal_contrast(predicted, other[:, after], other_real[:, after]), context


def ts_tcc(
    sizes: mb.Sizes,
    *,
    ahead: int = 12,
    width: int = 64,
    layers: int = 4,
    heads: int = 4,
    temperature: float = 0.2,
    temporal: float = 1.0,
    contextual: float = 0.7,
) -> TSTCC:
    """Return TS-TCC; `ahead` tokens are predicted (published: some 40 % of all), `temporal` and `contextual` weigh its terms.

    Raises:
        UserError: a size is not positive or does not divide, the temperature is not positive, or a weight is negative.
    """
    check_widths("ts-tcc", ahead=ahead, width=width, layers=layers, heads=heads)
    if width % heads or not temperature > 0 or min(temporal, contextual) < 0:
        raise mb.UserError(
            f"'ts-tcc' with width {width}, heads {heads}, temperature {temperature}, weights {temporal} and {contextual}; "
            "wanted a width that is a multiple of heads, a positive temperature, and weights of 0 or more"
        )
    given = {"ahead": ahead, "width": width, "layers": layers, "heads": heads}
    return TSTCC(sizes, **given, temperature=temperature, weights=(temporal, contextual))


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer TS-TCC."""
    return [
        mb.Entry(
            name="ts-tcc",
            build=ts_tcc,
            summary="one view's past predicts the other's future, and their contexts agree",
            source="https://arxiv.org/abs/2106.14112",
            license="MIT",
        )
    ]
