"""CPC: from what came before, tell the latents that follow out of others of the batch (InfoNCE over future latents).

Papers: Representation Learning with Contrastive Predictive Coding, van den Oord et al. 2018, https://arxiv.org/abs/1807.03748;
    on 12 leads: Mehari and Strodthoff 2022 (arXiv 2103.12676), whose 12 steps and 128 negatives are the defaults.
Written from the papers. Differs in who summarises the past, because a benchmark's encoder is to be trained whole: an encoder
with masked encoding does so itself, given the tokens before a moment drawn at random (those after it are left out); for any
other, a GRU runs over its tokens, as published, at every moment. Negatives are drawn once per predicted step.
Shapes: B records, L leads, T samples, N tokens, X sequences (records, or a record's rows), P moments, S of which are
predicted from, K negatives, D channels of the context, Z of a latent.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.masking import in_rows
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.row_decoder import row_length


def future_loss(predicted: Tensor, latents: Tensor, ahead: Tensor, drawn: Tensor) -> Tensor:
    """Return the mean InfoNCE of `predicted` (X, S, Z), which belong to the `latents` (X, P, Z) at `ahead` (S,).

    `drawn` (K,) are negatives, as places in all X P latents; where one is the true latent it is no negative.
    """
    sequences, moments, width = latents.shape
    true = torch.arange(sequences, device=latents.device)[:, None] * moments + ahead  # (X, S)
    flat = latents.reshape(-1, width)
    positive = (predicted * flat[true]).sum(dim=-1, keepdim=True)  # (X, S, 1)
    negative = (predicted @ flat[drawn].T).masked_fill(drawn == true[..., None], float("-inf"))  # (X, S, K)
    logits = torch.cat([positive, negative], dim=-1).flatten(0, 1)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


class CPC(mb.Objective):
    """One linear map for each step ahead predicts the latent there, compared with it and with negatives.

    They are compared by dot products, divided by the root of their width, so that training begins near the logarithm of the
    number of candidates.
    """

    scale: ClassVar[str] = "signal"
    summarise: nn.GRU | None

    def __init__(self, *, steps: int, negatives: int, width: int) -> None:
        super().__init__()
        self.steps, self.negatives, self.width = steps, negatives, width

    def fits(self, encoder: mb.ECGEncoder) -> str | None:
        """Return why the future of this encoder's tokens cannot be predicted, or None."""
        if isinstance(encoder, mb.MaskedEncoding) and (moments := row_length(encoder)) <= self.steps:
            return f"predicts {self.steps} steps ahead, and the encoder has {moments} tokens in a row; set steps lower"
        return None

    def attach(self, model: mb.PretrainingModel) -> None:
        """Build what depends on the encoder's widths.

        Raises:
            NotApplicable: the encoder does not fit.
        """
        encoder = model.encoder
        if (reason := self.fits(encoder)) is not None:
            raise mb.NotApplicable(reason)
        if isinstance(encoder, mb.MaskedEncoding):
            local, context, self.summarise = encoder.local_width, encoder.context_width, None
        else:
            local, context = encoder.width, self.width
            self.summarise = nn.GRU(local, context, batch_first=True)
        self.latent = nn.Linear(local, self.width)
        self.predict = nn.ModuleList(nn.Linear(context, self.width, bias=False) for _ in range(self.steps))

    def forward(self, signal: Tensor, encoder: nn.Module) -> Tensor:
        """Return the loss, its mean over sequences, moments and steps ahead."""
        if self.summarise is None and isinstance(encoder, mb.MaskedEncoding):
            latents, context, moments = self.at_a_moment(signal, encoder)
        else:
            latents, context, moments = self.at_every_moment(signal, encoder)
        with torch.autocast(signal.device.type, enabled=False):
            latents, context = at_least_float32(latents), at_least_float32(context)
            everywhere = latents.shape[0] * latents.shape[1]
            losses = []
            for step, predict in enumerate(self.predict, start=1):
                drawn = torch.randint(0, everywhere, (self.negatives,), device=latents.device)
                losses.append(future_loss(predict(context) / self.width**0.5, latents, moments + step, drawn))
            return torch.stack(losses).mean()

    def at_a_moment(self, signal: Tensor, encoder: mb.MaskedEncoding) -> tuple[Tensor, Tensor, Tensor]:
        """Return latents (X, P, Z), the encoder's state (X, 1, D) at a moment, which has seen none after it, and the moment."""
        local = encoder.local(signal)
        normed = encoder.normed(local)
        moments = local.shape[1] // encoder.token_rows
        now = int(torch.randint(0, moments - self.steps, ()))
        later = (torch.arange(moments, device=local.device) > now).repeat(encoder.token_rows)
        states = in_rows(encoder.contextual(normed, later.expand(len(local), -1), None), encoder)  # (B, R, P + 2 E, D)
        state = states[:, :, encoder.separators + now].flatten(0, 1)[:, None]
        latents = in_rows(self.latent(normed), encoder).flatten(0, 1)
        return latents, state, torch.tensor([now], device=local.device)

    def at_every_moment(self, signal: Tensor, encoder: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Return latents (B, N, Z), what a GRU knows (B, S, D) at every moment that has a future, and the moments.

        Raises:
            UserError: the encoder offers no tokens, or too few.
        """
        tokens = encoder(signal).tokens
        if tokens is None or self.summarise is None or tokens.shape[1] <= self.steps:
            found = 0 if tokens is None else tokens.shape[1]
            raise mb.UserError(
                f"'cpc' predicts {self.steps} steps ahead, and the encoder offers {found} tokens; set steps lower"
            )
        moments = torch.arange(tokens.shape[1] - self.steps, device=tokens.device)
        known, _ = self.summarise(tokens[:, : len(moments)])
        return self.latent(tokens), known, moments


def cpc(sizes: mb.Sizes, *, steps: int = 12, negatives: int = 128, width: int = 128) -> CPC:
    """Return CPC; `steps` are predicted ahead, `width` is of latents and of the GRU.

    Raises:
        UserError: an option is not positive.
    """
    if min(steps, negatives, width) < 1:
        raise mb.UserError(f"'cpc' with steps {steps}, negatives {negatives}, width {width}; wanted at least 1 of each")
    return CPC(steps=steps, negatives=negatives, width=width)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer CPC."""
    return [
        mb.Entry(
            name="cpc",
            build=cpc,
            summary="tell the latents that follow out of others, from what came before (CPC)",
            source="https://arxiv.org/abs/1807.03748",
            license="MIT",
        )
    ]
