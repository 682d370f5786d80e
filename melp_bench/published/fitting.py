"""Published tensors into our modules: strictly, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from melp_bench.errors import UserError
from melp_bench.published.family import Family, Shapes

WRAPPERS = tuple("".join(order) for many in range(4) for order in permutations(("module.", "model.", "_orig_mod."), many))
"""Prefixes that wrappers of whole models leave before every key, one around the other."""
COUNT = "num_batches_tracked"
"""Of a batch norm, which old files and some that were slimmed lack; nothing reads it where the momentum is fixed."""
WEIGHT_NORM = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}

PRECISIONS = ({torch.float16, torch.bfloat16, torch.float32, torch.float64}, {torch.int32, torch.int64})
"""Dtypes that stand for one another."""

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class KeyLayout:
    """How one file spells its keys; with it an export is key for key as the import was.

    Attributes:
        prefix: what stood before every key of ours.
        old_weight_norm: True if weight-norm was spelt `weight_g`, `weight_v`.
    """

    prefix: str = ""
    old_weight_norm: bool = False


@dataclass(frozen=True)
class Fitted(Generic[M]):
    """A module with published weights, and what became of every key.

    Attributes:
        options: read off the file's shapes.
        weights: our key -> tensor, in the file's own dtype.
        aside: published key (in full) -> tensor that the module has no place for; kept for export.
        unused: published key (in full) -> why it is not used.
    """

    module: M
    options: dict[str, Any]
    layout: KeyLayout
    weights: dict[str, Tensor]
    aside: dict[str, Tensor]
    unused: dict[str, str]


def fit(tensors: Mapping[str, Tensor], family: Family, build: Callable[..., M], source: str = "the checkpoint") -> Fitted[M]:
    """Return `build(**options)` with the published tensors in it.

    Raises:
        UserError: the file is not of this family, or a key is missing, unknown, of another shape or kind, or not finite.
            Nothing is loaded then.
    """
    layout = find_layout(tensors, family, source)
    inner = {_new_spelling(key.removeprefix(layout.prefix)): key for key in tensors if key.startswith(layout.prefix)}
    outside = {key: tensor for key, tensor in tensors.items() if not key.startswith(layout.prefix)}
    unused = dict.fromkeys(outside, family.elsewhere) if family.elsewhere else {}
    options = _options({key: tuple(tensors[full].shape) for key, full in inner.items()}, family, source)
    module = build(**options)
    wanted = module.state_dict()
    weights: dict[str, Tensor] = {}
    aside = dict(outside) if family.keeps_elsewhere else {}
    unknown = [] if family.elsewhere else list(outside)
    for key, full in inner.items():
        if (original := family.tied_to(key)) is not None:
            _check_tied(tensors, inner, full, original, source)
            unused[full] = f"repeats {original!r}"
        elif (reason := family.unused_because(key)) is not None:
            unused[full], aside[full] = reason, tensors[full]
        elif (ours := family.ours(key)) in wanted:
            weights[ours] = tensors[full]
        else:
            unknown.append(full)
    _check(weights, wanted, unknown, family, source)
    module.load_state_dict({key: weights.get(key, tensor) for key, tensor in wanted.items()}, strict=True)
    return Fitted(module, options, layout, weights, aside, unused)


def _options(shapes: Shapes, family: Family, source: str) -> dict[str, Any]:
    """Return what the shapes say of the module's size."""
    try:
        return family.options(shapes)
    except UserError as error:
        raise UserError(f"{source!r}: {error}; nothing was loaded") from error
    except LookupError as error:
        raise UserError(f"{source!r}: its shapes do not tell the size of a {family.name!r}; nothing was loaded") from error


def find_layout(tensors: Iterable[str], family: Family, source: str) -> KeyLayout:
    """Return how a file spells the family's keys.

    Raises:
        UserError: the family's anchor is not among the keys under any prefix of the family.
    """
    keys = list(tensors)
    if (prefix := _prefix(keys, family)) is not None:
        return KeyLayout(prefix, old_weight_norm=any(key.endswith(tuple(WEIGHT_NORM)) for key in keys))
    raise UserError(
        f"{source!r} holds no {family.name!r} weights: no key {family.anchor!r}; its keys begin with "
        f"{', '.join(repr(key) for key in keys[:3])}. Import it under the family it was published as"
    )


def holds(tensors: Iterable[str], family: Family) -> bool:
    """Return whether the family's anchor is among the keys, under any prefix of the family."""
    return _prefix(tensors, family) is not None


def _prefix(keys: Iterable[str], family: Family) -> str | None:
    new = {_new_spelling(key) for key in keys}
    prefixes = (wrapper + prefix for prefix in family.prefixes for wrapper in WRAPPERS)
    return next((prefix for prefix in prefixes if prefix + family.anchor in new), None)


def publish(weights: Mapping[str, Tensor], aside: Mapping[str, Tensor], family: Family, layout: KeyLayout) -> dict[str, Tensor]:
    """Return tensors under their published keys: the inverse of what `fit` did to the keys of the module.

    `aside` is under published keys in full.
    """
    inner = {_new_spelling(key.removeprefix(layout.prefix)): t for key, t in aside.items() if key.startswith(layout.prefix)}
    outside = {key: tensor for key, tensor in aside.items() if not key.startswith(layout.prefix)}
    plain = {family.published(key): tensor for key, tensor in weights.items()} | inner
    for template, _ in family.tied:
        if "*" in template or "{}" in template:
            plain |= {tied: plain[key] for key in list(plain) if (tied := _tied_name(family, template, key)) is not None}
        elif (original := family.tied_to(template)) in plain:
            plain[template] = plain[str(original)]
    spelt = {layout.prefix + (_old_spelling(key) if layout.old_weight_norm else key): t for key, t in plain.items()}
    return spelt | outside


def _tied_name(family: Family, template: str, original: str) -> str | None:
    """Return the key that repeats `original` under `template`, or None."""
    swapped = Family(family.name, family.anchor, tied=tuple((b, a) for a, b in family.tied if a == template))
    return swapped.tied_to(original)


def _check_tied(tensors: Mapping[str, Tensor], inner: Mapping[str, str], full: str, original: str, source: str) -> None:
    if original not in inner:
        raise UserError(f"{source!r} has {full!r} but not {original!r}, which it should repeat; the file is not whole")
    if not torch.equal(tensors[full], tensors[inner[original]]):
        raise UserError(f"{source!r}: {full!r} should repeat {original!r} and does not; the file is not of this model")


def _check(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], unknown: list[str], family: Family, source: str
) -> None:
    absent = [key for key in wanted if key not in weights and family.fresh_because(key) is None]
    missing = [key for key in absent if key.rpartition(".")[2] != COUNT]
    if missing or unknown:
        parts = [f"lacks {_some([family.published(key) for key in missing])}"] if missing else []
        parts += [f"has the unknown {_some(unknown)}"] if unknown else []
        raise UserError(f"{source!r} is no whole {family.name!r} checkpoint: it {' and '.join(parts)}; nothing was loaded")
    for key, tensor in weights.items():
        if tensor.shape != wanted[key].shape:
            raise UserError(
                f"{source!r}: {family.published(key)!r} has shape {tuple(tensor.shape)}, {family.name!r} wants "
                f"{tuple(wanted[key].shape)}; nothing was loaded"
            )
        if not _casts(tensor.dtype, wanted[key].dtype):
            raise UserError(
                f"{source!r}: {family.published(key)!r} holds {tensor.dtype}, {family.name!r} wants {wanted[key].dtype}; "
                "nothing was loaded"
            )
    for key, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.to(wanted[key].dtype)).all():
            raise UserError(
                f"{source!r}: {family.published(key)!r} holds values that are not finite; its training diverged, or the file "
                "is damaged; nothing was loaded"
            )


def _casts(given: torch.dtype, wanted: torch.dtype) -> bool:
    """Return whether a published dtype is another precision of ours."""
    return given == wanted or any({given, wanted} <= kind for kind in PRECISIONS)


def _some(keys: list[str]) -> str:
    shown = ", ".join(repr(key) for key in keys[:3])
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"


def _new_spelling(key: str) -> str:
    for old, new in WEIGHT_NORM.items():
        if key.endswith(old):
            return key.removesuffix(old) + new
    return key


def _old_spelling(key: str) -> str:
    for old, new in WEIGHT_NORM.items():
        if key.endswith(new):
            return key.removesuffix(new) + old
    return key
