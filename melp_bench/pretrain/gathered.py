"""What an objective that compares records is given on several ranks: the rows of all of them, each tensor sent when it is read.

Shapes: B records, Q segments, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from melp_bench.features import Features

Gather = Callable[[Tensor], Tensor]
"""Joins a tensor's rows over all ranks; every rank calls it, in the same order."""


def rows_of_all(value: Any, gather: Gather) -> Any:
    """Return `value` with the rows of all ranks: a tensor joined at once, each tensor of features where it is first read.

    A contrast that reads `record` alone sends no token. Every rank's objective sees the same and so reads the same, in the same
    order; one that would choose what to read by chance would wait for ranks that chose otherwise.
    """
    if isinstance(value, Features):
        return _read_later({name: partial(gather, tensor) for name, tensor in with_masks(value).present().items()})
    return gather(value) if isinstance(value, Tensor) else value


def with_masks(value: Features) -> Features:
    """Return the features with a mask of each scale: parts that are joined may be padded, and padding must stay padding."""
    if value.segments is not None and value.segments_mask is None:
        value = replace(value, segments_mask=_all_real(value.segments))
    if value.tokens is not None and value.tokens_mask is None:
        value = replace(value, tokens_mask=_all_real(value.tokens))
    return value


@dataclass(frozen=True)
class _ReadLater(Features):
    """Features some of whose tensors are calls, made once, when they are first read."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if isinstance(value, partial):
            value = value()
            object.__setattr__(self, name, value)
        return value


def _read_later(calls: dict[str, partial[Tensor]]) -> Features:
    return _ReadLater(**cast("dict[str, Tensor]", calls))


def _all_real(tensor: Tensor) -> Tensor:
    return torch.ones(tensor.shape[:2], dtype=torch.bool, device=tensor.device)
