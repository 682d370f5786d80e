"""Pairs made for objectives: records and reports that share a cause, so that a true pair can be told from a shuffled one.

Shapes: B pairs, N tokens, Q segments, K causes, D channels.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from melp_bench.components import ECGEncoder, Objective, Sizes
from melp_bench.errors import UserError
from melp_bench.features import Features
from melp_bench.signal import SignalSpec

SIZES = Sizes(shared=16, embedding=24, ecg_tokens=20, text_tokens=12, vocab=24, pad_id=0, classes=5, causal_text=True)
"""Widths all different, so that an objective which mixes them up fails to build or to run."""
PAIRS = 8
WORDS = 9
FEATURE_INPUTS = ("ecg", "text", "view1", "view2", "half1", "half2")
INPUTS = (*FEATURE_INPUTS, "labels", "signal", "encoder")
Inputs = dict[str, Any]


class SmallEncoder(ECGEncoder):
    """Patches of a quarter of a second through two linear layers; what masked objectives are given to work on."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = SignalSpec(rate_hz=100.0, seconds=2.0)
        self.width = SIZES.ecg_tokens
        self.patch = 25
        self.layers = nn.Sequential(nn.Linear(12 * self.patch, 32), nn.GELU(), nn.Linear(32, self.width))

    def forward(self, signal: Tensor) -> Features:
        """Return features of `signal` (B, 12, T)."""
        patches = signal.unfold(-1, self.patch, self.patch).transpose(1, 2).flatten(2)  # (B, N, 12 * patch)
        tokens = self.layers(patches)  # (B, N, D)
        mean = tokens.mean(dim=1)  # (B, D)
        return Features(record=mean, embedding=mean, tokens=tokens, tokens_mask=tokens.new_ones(tokens.shape[:2]).bool())


def wanted_inputs(objective: Objective) -> tuple[str, ...]:
    """Return the names of what `forward` needs.

    Raises:
        UserError: it asks for something no loop can give.
    """
    names = tuple(inspect.signature(objective.forward).parameters)
    unknown = [name for name in names if name not in INPUTS]
    if unknown or not names:
        raise UserError(f"forward asks for {unknown or 'nothing'}; what it can have is {', '.join(INPUTS)}")
    return names


def make_inputs(names: tuple[str, ...], *, pairs: int = PAIRS, seed: int = 0) -> Inputs:
    """Return the named inputs of a batch; every floating-point tensor asks for its gradient."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(2, SIZES.vocab, (pairs, WORDS), generator=generator)  # the common cause: which words are true
    signal = torch.randn(pairs, 12, 200, generator=generator)
    made: Inputs = {}
    for name in names:
        if name in FEATURE_INPUTS:
            made[name] = _features(words, generator, text=name == "text")
        elif name == "labels":
            labels = (torch.rand(pairs, SIZES.classes, generator=generator) < 0.4).float()
            made[name] = torch.where(torch.arange(pairs)[:, None] % SIZES.classes == torch.arange(SIZES.classes), 1.0, labels)
        elif name == "signal":
            made[name] = signal
        else:
            made[name] = SmallEncoder()
    return made


def _features(words: Tensor, generator: torch.Generator, *, text: bool) -> Features:
    """Return features caused by `words` (B, N), with a little noise of their own and masks of ragged length."""
    pairs, count = words.shape
    lengths = 3 + torch.arange(pairs) % (count - 2)  # 3 to count
    tokens_mask = torch.arange(count) < lengths[:, None]  # (B, N)
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
