"""InfoNCE between two sets of paired vectors: the term that contrastive objectives of every scale share.

Shapes: B pairs, D channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb

INITIAL_LOG_SCALE = math.log(1 / 0.07)
MAXIMUM_LOG_SCALE = math.log(100.0)


def symmetric_info_nce(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return both directions' cross entropies of `logits` (B, B), in which row i belongs to column i.

    Paper: van den Oord et al. 2018; both directions as in CLIP (Radford et al. 2021).
    """
    target = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)


def temperature_gauge(log_scale: Tensor) -> mb.Gauge:
    """Return the temperature of a learned scale, held within [1 / 100, 1]."""
    scale = float(log_scale.detach().clamp(0.0, MAXIMUM_LOG_SCALE))
    return mb.Gauge(math.exp(-scale), math.exp(-MAXIMUM_LOG_SCALE), 1.0)


def at_least_float32(value: Tensor) -> Tensor:
    """Return `value` in float32, or as it is where it is wider: exponentials are not taken in half precision."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
