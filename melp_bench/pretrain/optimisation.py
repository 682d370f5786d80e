"""The optimiser and its schedule: AdamW, linear warm-up, cosine decay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from melp_bench.recipe import Optimiser

if TYPE_CHECKING:
    from timm.scheduler.cosine_lr import CosineLRScheduler


def adamw(module: nn.Module, settings: Optimiser) -> torch.optim.AdamW:
    """Return AdamW; vectors and scalars (biases, norms, the logit scale) are not decayed."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, betas=settings.betas, fused=True)


def schedule(optimizer: torch.optim.Optimizer, settings: Optimiser, steps: int) -> CosineLRScheduler:
    """Return the schedule that `step_update(step)` sets the learning rate by, for steps 0 to `steps` - 1.

    From `final_fraction` of the rate up to all of it in a line over `warmup_fraction` of the steps, then down in half a cosine,
    back at `final_fraction` in the last step. A function of the step alone.
    """
    from timm.scheduler.cosine_lr import CosineLRScheduler

    warmup = min(round(steps * settings.warmup_fraction), steps - 1)
    lowest = settings.learning_rate * settings.final_fraction
    return CosineLRScheduler(
        optimizer,
        t_initial=max(steps - 1 - warmup, 1),
        lr_min=lowest,
        warmup_t=warmup,
        warmup_lr_init=lowest,
        warmup_prefix=True,
        t_in_epochs=False,
    )
