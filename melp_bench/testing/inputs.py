"""Pairs made for objectives: records and reports that share a cause, so that a true pair can be told from a shuffled one.

Shapes: B pairs, N tokens, Q segments, K causes, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from melp_bench.components import TextBatch
from melp_bench.features import Features
from melp_bench.testing.small import SIZES, SmallModel

PAIRS = 8
WORDS = 9
Inputs = dict[str, Any]


def made_like(name: str, views: Mapping[str, object]) -> str:
    """Return of which kind an input is: "features", "signal", or its own name."""
    if name in ("ecg", "text") or name in views:
        return "features"
    return "signal" if name == "signal" or name.removesuffix("_signal") in views else name


def make_inputs(
    names: tuple[str, ...],
    views: Mapping[str, object] | None = None,
    *,
    model: SmallModel | None = None,
    pairs: int = PAIRS,
    seed: int = 0,
) -> Inputs:
    """Return the named inputs of a batch, of which `views` names features; every floating-point tensor asks for its gradient.

    Every record is another patient's, so that only a true pair belongs together.
    """
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(2, SIZES.vocab, (pairs, WORDS), generator=generator)  # the common cause: which words are true
    signal = torch.randn(pairs, 12, 200, generator=generator)
    made: Inputs = {}
    for name in names:
        kind = made_like(name, views or {})
        if kind == "features":
            made[name] = _features(words, generator, text=name == "text")
        elif kind == "labels":
            labels = (torch.rand(pairs, SIZES.classes, generator=generator) < 0.4).float()
            made[name] = torch.where(torch.arange(pairs)[:, None] % SIZES.classes == torch.arange(SIZES.classes), 1.0, labels)
        elif kind == "signal":
            made[name] = signal
        elif kind == "patients":
            made[name] = torch.arange(pairs)
        elif kind == "progress":
            made[name] = 0.5
        elif kind == "reports":
            made[name] = _reports(words)
        else:
            model = model or SmallModel()
            made[name] = getattr(model, kind)  # encoder, text_encoder or heads
    return made


def _reports(words: Tensor) -> TextBatch:
    """Return reports of `words` (B, N), of ragged length and one sentence each."""
    mask = _ragged(words)
    return TextBatch(words.masked_fill(~mask, SIZES.pad_id), mask, torch.where(mask, 0, -1))


def _ragged(words: Tensor) -> Tensor:
    pairs, count = words.shape
    lengths = 3 + torch.arange(pairs) % (count - 2)  # 3 to count
    return torch.arange(count) < lengths[:, None]  # (B, N)


def _features(words: Tensor, generator: torch.Generator, *, text: bool) -> Features:
    """Return features caused by `words` (B, N), with a little noise of their own and masks of ragged length."""
    pairs, count = words.shape
    tokens_mask = _ragged(words)  # (B, N)
    segments_mask = torch.arange(4) < (1 + torch.arange(pairs) % 4)[:, None]  # (B, Q)
    counts = nn.functional.one_hot(words, SIZES.vocab).float()  # (B, N, K)
    placed = torch.cat([counts, torch.eye(count).expand(pairs, -1, -1)], dim=-1)  # (B, N, K + N), which word and where

    def caused(cause: Tensor, width: int, seed: int) -> Tensor:
        fixed = torch.Generator().manual_seed(seed)  # one map for all modalities: true pairs point the same way
        mixing = torch.randn(cause.shape[-1], width, generator=fixed)
        made = cause @ mixing
        return (made + 0.1 * torch.randn(made.shape, generator=generator)).requires_grad_()

    chunks = torch.stack(
        [part.mean(dim=1) for part in torch.split(counts, count // 4 + 1, dim=1)][:4], dim=1
    )  # (B, up to 4, K)
    chunks = torch.cat([chunks, chunks[:, :1].expand(-1, 4 - chunks.shape[1], -1)], dim=1)
    return Features(
        record=caused(counts.mean(dim=1) - 1 / SIZES.vocab, SIZES.shared, 1),
        embedding=caused(counts.mean(dim=1), SIZES.embedding, 2),
        segments=caused(chunks, SIZES.shared, 1),
        segments_mask=segments_mask,
        tokens=caused(placed, SIZES.text_tokens if text else SIZES.ecg_tokens, 3),
        tokens_mask=tokens_mask,
        token_ids=words.masked_fill(~tokens_mask, SIZES.pad_id) if text else None,
    )


def reorder(inputs: Inputs, order: Tensor, only: str | None = None) -> Inputs:
    """Return the batch in another order; with `only`, just that input, which breaks the pairs."""
    return {n: _take(v, order) if only in (None, n) else v for n, v in inputs.items()}


def _take(value: Any, order: Tensor) -> Any:
    if isinstance(value, Features):
        return value.apply({n: t[order] for n, t in value.present().items()})
    if isinstance(value, TextBatch):
        return TextBatch(value.ids[order], value.mask[order], value.sentences[order])
    return value[order] if isinstance(value, Tensor) else value


def disturb_padding(inputs: Inputs) -> Inputs:
    """Return the batch with other values under the masks."""
    changed: Inputs = dict(inputs)
    for name, value in inputs.items():
        if not isinstance(value, Features):
            continue
        for scale in ("segments", "tokens"):
            tensor, mask = getattr(value, scale), getattr(value, f"{scale}_mask")
            value = replace(value, **{scale: torch.where(mask.unsqueeze(-1), tensor, 7.0 - tensor)})
        changed[name] = value
    return changed
