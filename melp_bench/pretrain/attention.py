"""What a sentence of a report looks at in its record: through the segments that it attends to, to the tokens that those pool.

Paper: From Token to Rhythm (MELP), Wang et al. 2025, https://arxiv.org/abs/2506.21803, whose beats are learned queries over the
tokens of a record. A sentence's attention to the segments is its objective's own; a segment's attention to tokens is that of
the attention layer that made it, the mean over its heads. Their product says at which tokens a sentence looks.
Shapes: B records, S sentences, Q segments, N tokens, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from melp_bench.components import Objective, TextBatch
from melp_bench.errors import NotApplicable
from melp_bench.pretrain.step import Step


@dataclass(frozen=True)
class Looks:
    """Where sentences look in their records.

    Attributes:
        segments: (B, S, Q), a sentence's attention to the segments.
        time: (B, S, N), its attention to the tokens, which cover a record evenly.
        mask: (B, S), True where a sentence is real.
    """

    segments: Tensor
    time: Tensor
    mask: Tensor


@torch.no_grad()
def looks_of(step: Step, signal: Tensor, reports: TextBatch) -> Looks:
    """Return where the sentences of `reports` look in the records `signal` (B, L, T).

    Raises:
        NotApplicable: no objective of the step lets sentences attend to segments, or no attention layer made the segments.
    """
    model, training = step.model, step.training
    if model.text_encoder is None:
        raise NotApplicable("needs a text encoder")
    step.eval()
    try:
        with pooling_weights(model) as weights:
            ecg = model.ecg(signal)
        text = model.text(reports)
        found = (o.attention(ecg, text) for o in step.objectives.values() if isinstance(o, Objective))
        attention = next((one for one in found if one is not None), None)
    finally:
        step.train(training)
    if attention is None or ecg.segments is None or text.segments_mask is None:
        raise NotApplicable("needs an objective whose sentences attend to segments")
    segments = ecg.segments.shape[1]
    pools = [one for one in weights if one.shape[1] == segments and one.shape[2] > segments]
    if not pools:
        raise NotApplicable("needs segments that an attention layer makes of more tokens")
    return Looks(attention, attention @ pools[-1].to(attention.dtype), text.segments_mask)


@contextmanager
def pooling_weights(module: nn.Module) -> Iterator[list[Tensor]]:
    """Give the weights (B, queries, keys) of every attention layer that is run in `module` meanwhile, mean over heads."""
    found: list[Tensor] = []

    def ask(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return positional, {**named, "need_weights": True, "average_attn_weights": True}

    def keep(_: nn.Module, __: Any, made: Any) -> None:
        if isinstance(made, tuple) and isinstance(made[1], Tensor) and made[1].ndim == 3:
            found.append(made[1].detach())

    hooks: list[Any] = []
    try:
        for layer in module.modules():
            if isinstance(layer, nn.MultiheadAttention):
                hooks.append(layer.register_forward_pre_hook(ask, with_kwargs=True))
                hooks.append(layer.register_forward_hook(keep))
        yield found
    finally:
        for hook in hooks:
            hook.remove()
