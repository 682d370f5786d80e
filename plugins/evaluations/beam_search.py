"""Beam search: the likeliest texts that a model writes of records, several kept at each word.

A text's score is the sum of its words' log-probabilities over its length to the power of `length_penalty` (Wu et al. 2016,
arXiv:1609.08144, without their constant): 0 favours short texts, 1 is the mean. The search ends where as many texts as beams
are finished and no unfinished one scores better now, or at the most words, where what is unfinished ends as it is.

Shapes: R rows that are extended, N ids, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NextWord = Callable[[Tensor], Tensor]
"""(ids (R, N) of texts so far) -> log-probabilities (R, V) of their next word."""


@dataclass(frozen=True)
class Written:
    """A text: the ids between its begin and end, and its score."""

    ids: tuple[int, ...]
    score: float


def beam_search(
    next_word: NextWord, begin: int, end: int, *, beams: int, most_words: int, length_penalty: float = 1.0
) -> Written:
    """Return the best text of one record."""
    alive: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    done: list[Written] = []

    def scored(ids: tuple[int, ...], total: float, words: int) -> Written:
        return Written(ids, total / max(words, 1) ** length_penalty)

    for length in range(1, most_words + 2):
        rows = torch.tensor([[begin, *ids] for ids, _ in alive])
        known = torch.tensor([total for _, total in alive], dtype=torch.float64)
        totals = known[:, None] + next_word(rows).double().cpu()  # (R, V)
        if length == most_words + 1:  # nothing may follow but the end
            done += [scored(ids, float(totals[row, end]), length) for row, (ids, _) in enumerate(alive)]
            break
        best = totals.flatten().topk(min(2 * beams, totals.numel()))
        following: list[tuple[tuple[int, ...], float]] = []
        for total, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            row, word = divmod(place, totals.shape[1])
            if total == float("-inf"):
                continue
            if word == end:
                done.append(scored(alive[row][0], total, length))
            elif len(following) < beams:
                following.append(((*alive[row][0], word), total))
        alive = following
        done = sorted(done, key=lambda one: (-one.score, one.ids))[:beams]
        if not alive:
            break
        if len(done) == beams and max(total / length**length_penalty for _, total in alive) <= done[-1].score:
            break
    return min(done, key=lambda one: (-one.score, one.ids)) if done else Written((), float("-inf"))
