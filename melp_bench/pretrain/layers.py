"""The layers of an encoder, as far as they can be told from outside: what is decayed, recomputed and sharded one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from melp_bench.errors import UserError
from melp_bench.model import Model


def layers_of(tower: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of an encoder by name, in their order; none where they cannot be told.

    They are the members, such as have parameters, of the longest list of modules that holds at least half of all parameters,
    tables of words apart.
    """
    tables = {id(p) for module in tower.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}

    def size(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if id(p) not in tables)

    lists = [(name, m) for name, m in tower.named_modules() if isinstance(m, nn.ModuleList | nn.Sequential) and len(m) > 1]
    large = [(name, module) for name, module in lists if 2 * size(module) >= size(tower) > 0]
    if not large:
        return {}
    name, longest = max(large, key=lambda pair: len(list(pair[1].children())))
    members = [(child, layer) for child, layer in longest.named_children() if has_parameters(layer)]
    return {f"{name}.{child}" if name else child: layer for child, layer in members}


def has_parameters(module: nn.Module) -> bool:
    """Return whether there is anything to train in a module."""
    return next(module.parameters(), None) is not None


def towers_of(model: Model) -> dict[str, nn.Module]:
    """Return the encoders of a model, by their names in it."""
    towers = {"encoder": model.encoder, "text_encoder": model.text_encoder}
    return {name: tower for name, tower in towers.items() if tower is not None}


def depths(model: Model) -> dict[str, int]:
    """Return how far each parameter of the encoders lies below the top, as a negative number, by its name in the model.

    The last layer is at -1, what comes before the first layer is the deepest, and what comes after the last is at 0.

    Raises:
        UserError: the layers of the ECG encoder cannot be told.
    """
    found: dict[str, int] = {}
    for tower_name, tower in towers_of(model).items():
        layers = layers_of(tower)
        if not layers and tower is model.encoder:
            raise UserError(f"layer_decay: {type(tower).__name__!r} has no list of layers to tell its depth by; leave it out")
        below = -len(layers) - 1 if layers else 0  # before the first layer
        for name, _ in tower.named_parameters():
            place = next((i for i, layer in enumerate(layers) if name.startswith(f"{layer}.")), None)
            if place is not None:
                below = 0  # what comes after a layer, and is none, is at the top
            found[f"{tower_name}.{name}"] = below if place is None else place - len(layers)
    return found


@contextmanager
def recomputing(model: Model) -> Iterator[None]:
    """Let the layers of both encoders keep no activations: the backward pass computes them again, in the same bits.

    Raises:
        UserError: an encoder has nothing that could be recomputed by itself.
    """
    with ExitStack() as restored:
        for tower in towers_of(model).values():
            layers = list(layers_of(tower).values()) or [child for child in tower.children() if has_parameters(child)]
            if not layers:
                raise UserError(f"recompute: {type(tower).__name__!r} has no layers; leave it out")
            for layer in layers:
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, context_fn=partial(_once, layer))
                restored.callback(layer.__dict__.pop, "forward", None)
        yield


def _once(layer: nn.Module) -> tuple[Any, Any]:
    """Return the contexts of a layer's first and second pass: batch statistics are counted in one of them."""
    return nullcontext(), untracked(layer)


@contextmanager
def untracked(module: nn.Module) -> Iterator[None]:
    """Let batch norms use their batch's statistics, and count them in none of their running ones."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    before = [(norm.momentum, None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # statistics stay as they are, and the graph is the same as where they move
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if counted is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(counted)


@contextmanager
def compiled(model: Model, backend: str) -> Iterator[None]:
    """Let torch compile both encoders for as long as this lasts; their weights and their names stay as they are."""
    towers = list(towers_of(model).values())
    for tower in towers:
        tower.compile(backend=backend)
    try:
        yield
    finally:
        for tower in towers:
            tower._compiled_call_impl = None
