"""Signs of collapse: numbers of a validation that tell whether a model still tells records apart. Pure functions.

Papers: RankMe, Garrido et al. 2022, https://arxiv.org/abs/2210.02885 (effective rank); SimSiam, Chen and He 2020,
https://arxiv.org/abs/2011.10566 (the deviation of embeddings of unit length, which is 0 where all are one).
Shapes: N records or reports, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from melp_bench.components import Gauge

SAMPLE = 512
"""So many embeddings of each kind are looked at, at most; of fewer than `FEWEST` nothing is concluded."""
FEWEST = 8

LEAST_VARIANCE = 0.01
"""Below it embeddings point one way: a mean cosine of 0.99 between two records. The demo's six methods end at 0.33 to 0.88."""
LEAST_RANK = 2.0
"""Below it embeddings lie next to a line through the origin. The demo's six methods end at 27 to 92."""
AT_CHANCE = 0.01
"""A loss within this share of chance's own tells nothing apart."""
SETTLED = 0.25
"""The share of a stage's steps after which a loss at chance is a sign: before it a model may not have begun to learn."""


def effective_rank(embeddings: Tensor) -> float:
    """Return RankMe of `embeddings` (N, D): the exponential of the entropy of their singular values' shares.

    It lies between 1 and min(N, D); of nothing but zeros it is 0. The paper takes some 25,000 records to compare runs with; to
    see a collapse some hundreds do.
    """
    values = torch.linalg.svdvals(embeddings.double())
    total = float(values.sum())
    if not total > 0:
        return 0.0
    shares = values / total
    return math.exp(float(torch.special.entr(shares).sum()))


def unit_variance(embeddings: Tensor) -> float:
    """Return the variance, summed over channels, of `embeddings` (N, D) brought to unit length.

    It is 1 less the mean cosine between two of them: 0 where all point one way, 1 where they point everywhere.
    """
    units = F.normalize(embeddings.double(), dim=-1)
    return max(float(units.square().sum(dim=-1).mean() - units.mean(dim=0).square().sum()), 0.0)


def numbers_of(kind: str, embeddings: Tensor) -> dict[str, float]:
    """Return what the log shows of `embeddings` (N, D) of a `kind` ("ecg", "text"), by name.

    Nothing where they are too few or not finite.
    """
    if len(embeddings) < FEWEST:
        return {}
    sample = embeddings[:SAMPLE].float()
    if not bool(sample.isfinite().all()):
        return {}
    return {f"{kind} rank": effective_rank(sample), f"{kind} variance": unit_variance(sample)}


WORDS = {"ecg": "records", "text": "reports"}


def signs_in_embeddings(numbers: Mapping[str, float]) -> list[str]:
    """Return a sentence for each of `numbers_of` that no model which tells records apart would have."""
    found = []
    for kind, what in WORDS.items():
        variance, rank = numbers.get(f"{kind} variance", 1.0), numbers.get(f"{kind} rank", math.inf)
        if variance < LEAST_VARIANCE:
            found.append(f"embeddings of {what} point one way (variance {variance:.1e} of 1)")
        elif rank < LEAST_RANK:
            found.append(f"embeddings of {what} lie on a line (effective rank {rank:.2f})")
    return found


def signs_in_losses(terms: Mapping[str, float], chance: Mapping[str, float], *, done: float) -> list[str]:
    """Return a sentence for each term that is what chance would give (`chance`, by term), where `done` of a stage is done."""
    return [
        f"{name} {terms[name]:.3f} is chance's own {value:.3f}, ln(batch) of a contrast"
        for name, value in chance.items()
        if done >= SETTLED and name in terms and abs(terms[name] - value) <= AT_CHANCE * value
    ]


def signs_in_gauges(gauges: Mapping[str, Gauge]) -> list[str]:
    """Return a sentence for each gauge at a bound."""
    return [f"{name} is at its bound, {gauge.value:.3g}" for name, gauge in gauges.items() if gauge.at_bound]
