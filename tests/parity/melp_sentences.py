"""MELP's sentence embeddings as published: a pure function; text encoders here use the corrected rule.

Paper: From Token to Rhythm (MELP), Wang et al. 2025 (arXiv 2506.21803).
As published, text after the last full stop is left out, and a report without a full stop leaves the batch, which so gets
shorter. `hugging_face.HuggingFaceText` and `bert.Bert` keep both.
Shapes: B reports, N tokens, S sentences of a report, D channels.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor


def aggregate_sentence_emb(ids: Tensor, states: Tensor, *, stop: int, special: Collection[int]) -> list[Tensor]:
    """Return sentence embeddings (S, D) of each report with a full stop: means of `states` (B, N, D) up to and with each stop.

    Tokens of `ids` (B, N) that are `special` are not counted.
    """
    left_out = torch.tensor(sorted(special), device=ids.device)
    found: list[Tensor] = []
    for row, values in zip(ids, states, strict=True):
        kept = ~torch.isin(row, left_out)
        words, vectors = row[kept], values[kept]  # (M,), (M, D)
        ends = (words == stop).nonzero()[:, 0] + 1
        if len(ends):
            parts = vectors[: int(ends[-1])].tensor_split(ends[:-1].cpu())
            found.append(torch.stack([part.mean(dim=0) for part in parts]))
    return found
