"""Masked prediction: which quantised local feature stood where the record was masked, out of others of the same record.

Papers: wav2vec 2.0, Baevski et al. 2020 (arXiv 2006.11477); on 12 leads with random lead masking, Oh et al. 2022
(arXiv 2203.06889). Names of parameters are those of the published checkpoints. Written from the papers and parity data; differs
in that a masked lead rests at its own median (after min-max scaling 0 would be the record's minimum).
Shapes: B records, L leads, T samples, N tokens, M masked tokens, K negatives, C local channels, D channels, G groups, V codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.masking import without_separators
from melp_bench.published.family import Shapes

LOGIT_TEMPERATURE = 0.1
GRADIENT_OF_CONVOLUTIONS = 0.1
DIVERSITY_WEIGHT, SIZE_WEIGHT = 0.1, 10.0
FIRST_TEMPERATURE, LAST_TEMPERATURE, TEMPERATURE_DECAY = 2.0, 0.5, 0.999995  # of the choice of codes
FEATURE_DROPOUT = 0.1
NEEDS = "needs an encoder with masked encoding, such as 'conv-transformer' or 'wav2vec2-cmsc'"


@dataclass(frozen=True)
class Quantised:
    """Chosen codes, their vectors, and how evenly codes are used."""

    vectors: Tensor  # (B, M, G * V's width)
    codes: Tensor  # (B, M, G)
    code_perplexity: Tensor  # of the codes chosen, summed over groups
    prob_perplexity: Tensor  # of the mean distribution over codes, summed over groups


class GumbelQuantizer(nn.Module):
    """Product quantisation: in each group one code is chosen, with Gumbel noise while training."""

    def __init__(self, *, channels: int, codes: int, groups: int, width: int) -> None:
        super().__init__()
        self.groups, self.num_codes = groups, codes
        self.vars = nn.Parameter(torch.rand(1, groups * codes, width // groups))
        self.weight_proj = nn.Linear(channels, groups * codes)
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)

    def forward(self, local: Tensor, temperature: float) -> Quantised:
        """Return the codes of local features (B, M, C)."""
        logits = self.weight_proj(local).view(*local.shape[:2], self.groups, self.num_codes).float()  # (B, M, G, V)
        codes = logits.argmax(-1)
        chosen = F.one_hot(codes, self.num_codes).to(logits.dtype)
        used = perplexity(chosen.mean((0, 1)))
        if self.training:
            chosen = F.gumbel_softmax(logits, tau=temperature, hard=True)
            codes = chosen.argmax(-1)
        table = self.vars.view(self.groups, self.num_codes, -1)
        vectors = torch.einsum("bmgv,gvd->bmgd", chosen, table.to(chosen.dtype)).flatten(2)
        return Quantised(vectors, codes, used, perplexity(logits.softmax(-1).mean((0, 1))))


def perplexity(mean: Tensor) -> Tensor:
    """Return the perplexities of distributions (G, V), summed over groups."""
    return (-(mean * (mean + 1e-7).log()).sum(-1)).exp().sum()


def span_mask(batch: int, tokens: int, *, probability: float, length: int, device: torch.device) -> Tensor:
    """Return a mask (B, N) of spans, equally many tokens in every record.

    Each record has `probability * N / length` spans (rounded at random), which may overlap; a record in which they cover more
    tokens than in another uncovers some.
    """
    spans = int(probability * tokens / length + torch.rand(()).item())
    spans = max(1, min(spans, tokens - length + 1))
    starts = torch.rand(batch, tokens - length + 1, device=device).argsort(1)[:, :spans]  # (B, S)
    covered = (starts[..., None] + torch.arange(length, device=device)).flatten(1)
    mask = torch.zeros(batch, tokens, dtype=torch.bool, device=device).scatter(1, covered, True)
    order = (torch.rand(batch, tokens, device=device) + mask).argsort(1, descending=True)  # masked tokens first
    kept = order[:, : int(mask.sum(1).min())]
    return torch.zeros_like(mask).scatter(1, kept, True)


def others(drawn: Tensor) -> Tensor:
    """Return indices of other masked tokens: `drawn` (B, M, K), in [0, M - 1), steps over each token's own index."""
    own = torch.arange(drawn.shape[1], device=drawn.device)[:, None]
    return drawn + (drawn >= own)


def contrast_logits(context: Tensor, targets: Tensor, codes: Tensor, negatives: Tensor) -> Tensor:
    """Return logits (B, M, 1 + K), the true target first; a negative of the same codes is no negative, and gets -inf.

    `context`, `targets` (B, M, D), `codes` (B, M, G), `negatives` (B, M, K) indices of masked tokens.
    """
    rows = torch.arange(len(negatives), device=negatives.device)[:, None, None]
    candidates = torch.cat([targets[:, :, None], targets[rows, negatives]], dim=2)  # (B, M, 1 + K, D)
    logits = F.cosine_similarity(context[:, :, None].float(), candidates.float(), dim=-1) / LOGIT_TEMPERATURE
    same = (codes[rows, negatives] == codes[:, :, None]).all(-1)  # (B, M, K)
    return logits.masked_fill(F.pad(same, (1, 0)), float("-inf"))


class PretrainingHead(nn.Module):
    """What masked prediction adds to a backbone; its published checkpoints keep it beside the encoder."""

    def __init__(
        self,
        *,
        width: int,
        channels: int = 256,
        codes: int = 320,
        groups: int = 2,
        code_width: int = 256,
        final_width: int = 256,
    ) -> None:
        super().__init__()
        self.mask_emb = nn.Parameter(torch.rand(width))
        self.quantizer = GumbelQuantizer(channels=channels, codes=codes, groups=groups, width=code_width)
        self.project_q = nn.Linear(code_width, final_width)
        self.final_proj = nn.Linear(width, final_width)


class Masked(mb.Objective):
    """wav2vec 2.0's contrast, the codes' diversity and the features' size, weighted 1, 0.1 and 10.

    Its head is as wide as the encoder that it is attached to.
    """

    scale: ClassVar[str] = "signal"
    updates: Tensor
    head: PretrainingHead

    def __init__(
        self, *, probability: float, length: int, negatives: int, lead_mask: float, codes: int = 320, groups: int = 2
    ) -> None:
        super().__init__()
        self.codes, self.groups = codes, groups
        self.probability, self.length, self.negatives, self.lead_mask = probability, length, negatives, lead_mask
        self.dropout = nn.Dropout(FEATURE_DROPOUT)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def fits(self, encoder: mb.ECGEncoder) -> str | None:
        """Return None for an encoder with masked encoding."""
        return None if isinstance(encoder, mb.MaskedEncoding) else NEEDS

    def attach(self, model: mb.PretrainingModel) -> None:
        """Build the head for the model's encoder.

        Raises:
            NotApplicable: the encoder has no masked encoding.
        """
        if not isinstance(model.encoder, mb.MaskedEncoding):
            raise mb.NotApplicable(NEEDS)
        width, channels = model.encoder.context_width, model.encoder.local_width
        self.head = PretrainingHead(
            width=width, channels=channels, codes=self.codes, groups=self.groups, code_width=128 * self.groups
        )

    def forward(self, signal: Tensor, encoder: mb.MaskedEncoding) -> tuple[Tensor, Tensor]:
        """Return the loss, its mean over masked tokens, and their number.

        Raises:
            UserError: the signal is too short for a mask.
        """
        convolved = encoder.local(self._leads_masked(signal))  # (B, N, C)
        convolved = convolved * GRADIENT_OF_CONVOLUTIONS + convolved.detach() * (1 - GRADIENT_OF_CONVOLUTIONS)
        local = encoder.normed(convolved)
        batch, tokens, _ = local.shape
        if tokens <= self.length:
            raise mb.UserError(
                f"'masked' masks spans of {self.length} of {tokens} tokens; give longer signals, or shorter spans"
            )
        mask = span_mask(batch, tokens, probability=self.probability, length=self.length, device=local.device)
        count = int(mask[0].sum())
        if count < 2:
            raise mb.UserError(f"'masked' masked {count} of {tokens} tokens; give longer signals or a larger probability")
        drawn = torch.randint(0, count - 1, (batch, count, self.negatives), device=local.device)
        logits, quantised = self.predict(encoder, local, mask, others(drawn))
        if self.training:
            self.updates += 1
        entries = quantised.codes.shape[-1] * self.head.quantizer.num_codes
        diversity = (entries - quantised.prob_perplexity) / entries
        size = convolved.float().square().mean()
        loss = contrast_loss(logits) + DIVERSITY_WEIGHT * diversity + SIZE_WEIGHT * size
        return loss, torch.tensor(float(batch * count), device=loss.device)

    def predict(self, encoder: mb.MaskedEncoding, local: Tensor, mask: Tensor, negatives: Tensor) -> tuple[Tensor, Quantised]:
        """Return logits (B, M, 1 + K) and targets of local features (B, N, C) under `mask` (B, N), M True in every row."""
        count = int(mask[0].sum())
        context = without_separators(encoder.contextual(self.dropout(local), mask, self.head.mask_emb), encoder)
        masked = context[mask].view(len(local), count, -1)  # (B, M, D)
        quantised: Quantised = self.head.quantizer(self.dropout(local)[mask].view(len(local), count, -1), self._temperature())
        targets = self.head.project_q(quantised.vectors)
        return contrast_logits(self.head.final_proj(masked), targets, quantised.codes, negatives), quantised

    def _temperature(self) -> float:
        return max(FIRST_TEMPERATURE * TEMPERATURE_DECAY ** int(self.updates), LAST_TEMPERATURE)

    def _leads_masked(self, signal: Tensor) -> Tensor:
        drop = torch.rand(*signal.shape[:2], 1, device=signal.device) < self.lead_mask  # (B, L, 1)
        return torch.where(drop, signal.median(dim=-1, keepdim=True).values, signal)


def contrast_loss(logits: Tensor) -> Tensor:
    """Return the cross entropy of logits (B, M, 1 + K), whose first column is right; its mean over masked tokens."""
    flat = logits.flatten(0, 1)
    return F.cross_entropy(flat, torch.zeros(len(flat), dtype=torch.long, device=flat.device))


def masked(
    sizes: mb.Sizes,
    *,
    probability: float = 0.65,
    length: int = 10,
    negatives: int = 100,
    lead_mask: float = 0.5,
    codes: int = 320,
    groups: int = 2,
) -> Masked:
    """Return masked prediction for an encoder with masked encoding; defaults are those published for wav2vec2.

    Raises:
        UserError: an option out of its range.
    """
    if not 0 < probability <= 1 or not 0 <= lead_mask < 1 or min(length, negatives, codes, groups) < 1:
        raise mb.UserError(
            f"'masked' with probability {probability}, lead_mask {lead_mask}, length {length}, negatives {negatives}, "
            f"codes {codes}, groups {groups}; wanted probability in (0, 1], lead_mask in [0, 1), the others at least 1"
        )
    return Masked(probability=probability, length=length, negatives=negatives, lead_mask=lead_mask, codes=codes, groups=groups)


def _options(shapes: Shapes) -> dict[str, Any]:
    _, entries, part = shapes["quantizer.vars"]
    final_width, code_width = shapes["project_q.weight"]
    groups = code_width // part
    width, channels = shapes["mask_emb"][0], shapes["quantizer.weight_proj.weight"][1]
    given = {"width": width, "channels": channels}
    return {**given, "codes": entries // groups, "groups": groups, "code_width": code_width, "final_width": final_width}


BACKBONE = ("encoder", "feature_extractor", "post_extract_proj", "conv_pos", "layer_norm")
FAMILY = mb.Family(
    name="wav2vec2-head",
    anchor="quantizer.vars",
    prefixes=("ecg_encoder.ecg_encoder.", "ecg_encoder.", ""),
    unused=tuple((f"{name}.*", "belongs to the backbone") for name in BACKBONE),
    options=_options,
    elsewhere="stands outside the wav2vec2 model",
)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer masked prediction."""
    return [
        mb.Entry(
            name="masked",
            build=masked,
            summary="wav2vec 2.0's masked prediction with a quantizer and random lead masking",
            source="https://arxiv.org/abs/2006.11477",
            license="MIT",
        )
    ]
