"""From a parity folder to our model's outputs: one adapter per kind of folder, found by the folder's name.

Every module `adapters_<family>.py` beside this file has a list `ADAPTERS`. Nothing in an adapter may depend on a salt.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filling import Fixture
from torch import Tensor

import melp_bench as mb


@dataclass(frozen=True)
class Adapter:
    """How our models answer one kind of fixture.

    Attributes:
        pattern: searched in the folder's name.
        outputs: fixture, published weights and inputs -> every output of the fixture, by name and at full size.
        takes_seconds: marks the folder's tests as slow.
    """

    pattern: str
    outputs: Callable[[Fixture, dict[str, Tensor], dict[str, Tensor]], Mapping[str, Tensor]]
    takes_seconds: bool = True


def all_adapters() -> list[Adapter]:
    """Return the adapters of every family."""
    modules = sorted(path.stem for path in Path(__file__).parent.glob("adapters_*.py"))
    return [adapter for module in modules for adapter in importlib.import_module(module).ADAPTERS]


def adapter_for(folder: str) -> Adapter:
    """Return the adapter whose pattern is longest among those that fit the folder's name."""
    fits = [adapter for adapter in all_adapters() if re.search(adapter.pattern, folder)]
    if not fits:
        raise LookupError(f"no adapter fits the parity folder {folder!r}")
    return max(fits, key=lambda adapter: len(adapter.pattern))


def watched(model: mb.ECGEncoder, layers: Mapping[str, str], signal: Tensor) -> tuple[mb.Features, dict[str, Tensor]]:
    """Return a model's features of `signal`, and by name what those of its layers gave; `layers` is name to module."""
    seen: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(layer).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
        for name, layer in layers.items()
    ]
    features = model(signal)
    for handle in handles:
        handle.remove()
    return features, seen
