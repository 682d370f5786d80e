"""Where in time an encoder's tokens lie: tried, not believed.

A small pulse is put into records at one moment after the other, and the token that it changes most is looked for. Tokens whose
places follow the pulse, evenly from the record's start to its end, are moments of the record; where tokens are pieces of an
image, beats in an order of their own, or a few learned queries, they are none.

Shapes: B records, L leads, T samples, M tokens, R rows of tokens (one per lead where each lead is cut by itself), D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

import melp_bench as mb

MOMENTS = 12
PULSE_S = 0.02
WITHIN = 0.08
"""The share of a record by which a token may lie elsewhere than its place in the row says."""
ENOUGH = 10


def by_time(context: mb.Context, tokens: Tensor) -> Tensor:
    """Return tokens (B, M, D) of the context's model as moments (B, M / R, D), the mean over rows."""
    rows = int(getattr(context.model.encoder, "token_rows", 1) or 1)
    if rows == 1 or tokens.shape[1] % rows:
        return tokens
    return tokens.reshape(len(tokens), rows, -1, tokens.shape[-1]).mean(dim=1)


def require_tokens_in_time(context: mb.Context, task: mb.TaskRecords) -> None:
    """Check that the model's tokens are moments of a record.

    Raises:
        NotApplicable: it offers no tokens, or reads records by crops, or its tokens do not follow one another in time.
    """
    spec = context.model.encoder.spec
    if spec.crops is not None:
        raise mb.NotApplicable("an encoder that reads records by crops offers no tokens of a whole record")
    positions = task.parts[0].train[:4]
    signals = context.signals(task, positions)  # (B, L, T)
    clean = context.encode(signals).tokens
    if clean is None:
        raise mb.NotApplicable("needs tokens, which the model does not offer")
    clean = by_time(context, clean)
    time = torch.arange(signals.shape[-1], device=signals.device) / spec.rate_hz
    moments = [(k + 0.5) / MOMENTS for k in range(MOMENTS)]  # of the record
    near = 0
    for moment in moments:
        pulse = torch.exp(-0.5 * ((time - moment * spec.seconds) / PULSE_S) ** 2)
        found = context.encode(signals + pulse * signals.std(dim=-1, keepdim=True)).tokens
        if found is None or found.shape[1] == 0:
            raise mb.NotApplicable("needs tokens, which the model does not offer")
        moved = by_time(context, found)
        if moved.shape != clean.shape:
            continue
        change = (moved - clean).norm(dim=-1).mean(dim=0)  # (M,)
        place = (float(change.argmax()) + 0.5) / len(change)
        near += abs(place - moment) <= max(WITHIN, 1 / len(change))
    if near < ENOUGH:
        raise mb.NotApplicable(
            f"its tokens do not follow one another in time: {near} of {MOMENTS} pulses were met in their place"
        )


def at_times(moments: Tensor, seconds: Tensor, length_s: float) -> Tensor:
    """Return the features (n, D) at `seconds` (n,) of a record's `moments` (M, D), which cover `length_s`; linear between."""
    place = (seconds / length_s * len(moments) - 0.5).clamp(0, len(moments) - 1)
    low = place.floor().long().clamp_max(max(len(moments) - 2, 0))
    high = (low + 1).clamp_max(len(moments) - 1)
    share = (place - low)[:, None]
    return moments[low] * (1 - share) + moments[high] * share
