"""The optimiser and its schedule: torch's or timm's AdamW, SGD or LARS; linear warm-up, cosine decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from melp_bench.pretrain.layers import depths
from melp_bench.pretrain.sharding import apart
from melp_bench.pretrain.step import Step
from melp_bench.recipe import Optimiser

if TYPE_CHECKING:
    from timm.scheduler.cosine_lr import CosineLRScheduler


def make_optimizer(module: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    """Return the optimiser of what is trained in `module`; vectors and scalars (biases, norms, a scale) are not decayed.

    LARS (You et al. 2017, arXiv 1708.03888) adapts the rate of what is decayed, as methods with large batches use it.

    Raises:
        UserError: `layer_decay` is asked for, and the layers of the encoder cannot be told.
    """
    groups, rate = parameter_groups(module, settings), settings.learning_rate
    groups = [group | {"params": part} for group in groups for part in apart(group["params"])]
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=settings.betas, fused=True)
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum)
    from timm.optim.lars import Lars

    lars: torch.optim.Optimizer = Lars(groups, lr=rate, momentum=settings.momentum)
    return lars


def parameter_groups(module: nn.Module, settings: Optimiser) -> list[dict[str, Any]]:
    """Return what is trained, by its weight decay and, with `layer_decay`, by its depth, which scales the rate."""
    if settings.layer_decay != 1.0 and isinstance(module, Step):
        from timm import optim

        scaled: list[dict[str, Any]] = optim.param_groups_layer_decay(  # type: ignore[attr-defined]
            _Layered(module), weight_decay=settings.weight_decay, layer_decay=settings.layer_decay
        )
        return scaled
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class _Layered(nn.Module):
    """A step as timm groups parameters by depth: both encoders from their last layers down, all else at the top."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return the function from a parameter's name to its depth."""
        found = {f"step.model.{name}": depth for name, depth in depths(self.step.model).items()}
        return lambda name: found.get(name, 0)


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
