"""How alike texts are by the words they share: what tells a false negative among the reports of a batch.

Source: term frequency times inverse document frequency, Spärck Jones 1972 (https://doi.org/10.1108/eb026526), in the smoothed
form of scikit-learn's `TfidfTransformer`. It needs no model, does not move while one is trained, and equal texts have 1.
Shapes: D texts, N tokens, U different words.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

ROUNDING = 1e-6


def word_counts(ids: Tensor, text_of: Tensor, num_texts: int) -> Tensor:
    """Return how often each word that occurs is in each text, (D, U).

    `ids` are words, and `text_of` the text that each is of, both of any shape; a word of no text has -1.
    """
    real = text_of >= 0
    words, place = ids[real].unique(return_inverse=True)  # type: ignore[no-untyped-call]
    counts = torch.zeros(num_texts, max(len(words), 1), device=ids.device)
    if len(words):
        counts.index_put_((text_of[real], place), torch.ones(len(place), device=ids.device), accumulate=True)
    return counts


def tf_idf_similarity(counts: Tensor) -> Tensor:
    """Return the cosines (D, D) of texts of which `counts` (D, U) are the words, rare words weighing more.

    A word in d of D texts weighs 1 + ln((1 + D) / (1 + d)); a text without a word is like no other. Texts of equal words
    have 1, whatever rounding makes of it.
    """
    texts = len(counts)
    weight = 1 + ((1 + texts) / (1 + (counts > 0).sum(dim=0))).log()  # (U,)
    vectors = F.normalize(counts * weight, dim=-1)
    cosine = (vectors @ vectors.T).clamp_min(0.0)
    return cosine.masked_fill(cosine > 1 - ROUNDING, 1.0)


def report_similarity(ids: Tensor, mask: Tensor) -> Tensor:
    """Return how alike the reports of a batch are, (B, B), from their words' `ids` (B, N), real where `mask` (B, N) is True."""
    row = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
    similarity = tf_idf_similarity(word_counts(ids, row.masked_fill(~mask, -1), len(ids)))
    return similarity.fill_diagonal_(1.0)
