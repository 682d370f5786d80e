"""ASTCL: a noisier and a cleaner view of one patient's records agree, foretell each other, and cannot be told apart.

Paper: Adversarial Spatiotemporal Contrastive Learning for Electrocardiogram Signals, Wang et al. 2024,
https://doi.org/10.1109/TNNLS.2023.3272153. Written from what is public, its abstract: noise enhancement and denoising as views;
a discriminator against the encoder; spatiotemporal prediction and patient discrimination from positive pairs of a patient
alone; a predictor and a stop of the gradient against collapse. What the abstract leaves open is chosen here: the band and
strengths of the views, a recurrent network over tokens that see all leads, which predicts the other view's next tokens by their
cosine; SimSiam's loss over all pairs of one patient; a reversed gradient whose strength rises as in Ganin et al. 2016
(https://arxiv.org/abs/1505.07818); and terms that weigh the same.
Shapes: B records, N tokens, D channels of a token, P embedding channels, H of the past, K steps ahead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.self_distillation import check_widths, perceptron
from melp_plugins.objectives.ts_tcc import drawn_time, tokens_of
from melp_plugins.views.augmentation import DENOISED, ENHANCED

STEEPNESS = 10.0  # of the rise of the reversed gradient


def reversed_gradient(x: Tensor, strength: float) -> Tensor:
    """Return `x`, whose gradient is `-strength` times what arrives: what learns on it works against what made it."""
    return (1 + strength) * x.detach() - strength * x


def reversal_at(progress: float) -> float:
    """Return the strength of the reversed gradient, from 0 to nearly 1 over the share of the steps done."""
    return 2 / (1 + math.exp(-STEEPNESS * progress)) - 1


def patient_agreement(predicted: Tensor, projected: Tensor, patients: Tensor) -> Tensor:
    """Return minus the mean cosine of (B, D) and (B, D) over all pairs of records of one patient; the latter is a constant."""
    cosines = F.normalize(predicted, dim=-1) @ F.normalize(projected.detach(), dim=-1).T  # (B, B)
    same = patients[:, None] == patients[None]
    return -(cosines * same).sum() / same.sum()


class ASTCL(mb.Objective):
    """Patient discrimination, spatiotemporal prediction and the adversarial term, summed.

    A low loss is no sign of a good encoder, which only a collapsed one would reach at once: the last weights are kept.
    """

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True
    keep: ClassVar[Literal["lowest", "last"]] = "last"

    def __init__(self, sizes: mb.Sizes, *, projected: int, bottleneck: int, past: int, ahead: int, adversarial: float) -> None:
        super().__init__()
        self.ahead, self.adversarial = ahead, adversarial
        self.project = perceptron(sizes.embedding, projected, projected, norm_last=True)
        self.predict = perceptron(projected, bottleneck, projected)
        self.remember = nn.GRU(sizes.ecg_tokens, past, batch_first=True)
        self.foretell = nn.Linear(past, ahead * sizes.ecg_tokens)
        self.discriminate = nn.Sequential(nn.Linear(sizes.embedding, bottleneck), nn.LeakyReLU(0.2), nn.Linear(bottleneck, 1))

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return a record with more noise, and one with less."""
        return {"enhanced": ENHANCED, "denoised": DENOISED}

    def forward(self, enhanced: mb.Features, denoised: mb.Features, patients: Tensor, progress: float) -> Tensor:
        """Return the loss of two views of the same records, given whose they are, `patients` (B,).

        Raises:
            NotApplicable: the encoder offers fewer than two tokens.
        """
        with torch.autocast(patients.device.type, enabled=False):
            one, two = (at_least_float32(view.embedding) for view in (enhanced, denoised))
            agree = self.agreement(one, two, patients)
            foretold = self.prediction(enhanced, denoised, progress)
            return agree + foretold + self.adversarial * self.distinction(one, two, reversal_at(progress))

    def agreement(self, one: Tensor, two: Tensor, patients: Tensor) -> Tensor:
        """Return the loss of patient discrimination on embeddings (B, P) of both views, the mean of both directions."""
        z1, z2 = self.project(one), self.project(two)
        there, back = patient_agreement(self.predict(z1), z2, patients), patient_agreement(self.predict(z2), z1, patients)
        return (there + back) / 2

    def prediction(self, one: mb.Features, two: mb.Features, progress: float) -> Tensor:
        """Return minus the cosine of each view's next tokens and what the other's past says of them, both directions' mean."""
        first, second = tokens_of(one), tokens_of(two)
        ahead = min(self.ahead, first[0].shape[1] - 1)
        time = drawn_time(progress, first[0].shape[1], ahead)
        after, terms = slice(time + 1, time + 1 + ahead), []
        for (own, _), (other, real) in ((first, second), (second, first)):
            past = self.remember(own[:, : time + 1])[1][0]  # (B, H)
            foretold = self.foretell(past).view(len(own), self.ahead, -1)[:, :ahead]  # (B, K, D)
            cosines = F.cosine_similarity(foretold, other[:, after].detach(), dim=-1) * real[:, after]
            terms.append(-cosines.sum() / real[:, after].sum().clamp_min(1))
        return (terms[0] + terms[1]) / 2

    def distinction(self, one: Tensor, two: Tensor, reversal: float) -> Tensor:
        """Return the cross entropy of telling the views apart by embeddings (B, P), which the encoder works against."""
        logits = self.discriminate(reversed_gradient(torch.cat([one, two]), reversal)).squeeze(-1)  # (2B,)
        which = torch.cat([torch.ones(len(one)), torch.zeros(len(two))]).to(logits)
        return F.binary_cross_entropy_with_logits(logits, which)


def astcl(
    sizes: mb.Sizes,
    *,
    projected: int = 512,
    bottleneck: int = 128,
    past: int = 64,
    ahead: int = 12,
    adversarial: float = 1.0,
) -> ASTCL:
    """Return ASTCL; `past` is the width of the recurrent network, `ahead` tokens are predicted, `adversarial` weighs the game.

    Raises:
        UserError: a size is not positive, or the weight is negative.
    """
    check_widths("astcl", projected=projected, bottleneck=bottleneck, past=past, ahead=ahead)
    if adversarial < 0:
        raise mb.UserError(f"option 'adversarial' of 'astcl' is {adversarial}; wanted 0 or more")
    return ASTCL(sizes, projected=projected, bottleneck=bottleneck, past=past, ahead=ahead, adversarial=adversarial)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer ASTCL."""
    return [
        mb.Entry(
            name="astcl",
            build=astcl,
            summary="a noisier and a cleaner view agree, foretell each other, and cannot be told apart",
            source="https://doi.org/10.1109/TNNLS.2023.3272153",
            license="MIT",
        )
    ]
