"""Components built by name: the one place where an entry and options become an object, and where a stranger's code may fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from melp_bench.components import ECGEncoder
from melp_bench.errors import UserError
from melp_bench.registry import Entry
from melp_bench.signal import SignalSpec

T = TypeVar("T")


def signal_spec(entry: Entry[ECGEncoder], options: Mapping[str, Any]) -> SignalSpec | None:
    """Return what an encoder wants, found without making its weights; None where it cannot be built so."""
    try:
        with torch.device("meta"):
            return entry.build(**entry.resolve(options)).spec
    except Exception:  # a stranger's code, which may well need real tensors; it is built in earnest later
        return None


def num_parameters_of(entry: Entry[ECGEncoder], options: Mapping[str, Any]) -> int | None:
    """Return how many parameters an encoder has, counted without making them; None where it cannot be built so."""
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in entry.build(**entry.resolve(options)).parameters())
    except Exception:  # a stranger's code, as above
        return None


def build_component(entry: Entry[T], options: Mapping[str, Any], *given: object) -> T:
    """Return the component, built from what is `given` and its options.

    Raises:
        UserError: an option is unknown, or the component cannot be built with these options.
    """
    resolved = entry.resolve(options)
    try:
        return entry.build(*given, **resolved)
    except UserError:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError, AssertionError) as error:  # a stranger's code
        shown = ", ".join(f"{name}={value!r}" for name, value in resolved.items())
        raise UserError(f"{entry.name!r} cannot be built with {shown}: {type(error).__name__}: {error}") from error
