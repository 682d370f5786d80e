"""Which of the state dicts that a published file holds is a family's.

Training code saves {"model": ..., "optimizer": ...}, an average beside the weights, or an encoder and a decoder side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from melp_bench.errors import UserError
from melp_bench.published.family import Family
from melp_bench.published.fitting import holds
from melp_bench.published.tensor_files import Published, under_names


@dataclass(frozen=True)
class FamilyPart:
    """What of a file a family reads.

    Attributes:
        name: of the state dict that it is; empty for the file's top level.
        tensors: by published key.
        beside: key of what else the file holds -> why it is not used.
    """

    name: str
    tensors: dict[str, Tensor]
    beside: dict[str, str]


def part_of(source: Published, family: Family) -> FamilyPart:
    """Return the only state dict of a file that holds the family's weights, or those that the family reads as one.

    Raises:
        UserError: none holds them, or several do and the user chose none.
    """
    together = tuple(name for name in source.parts if name in family.parts)
    groups = {(name,): tensors for name, tensors in source.parts.items() if name not in together}
    if together:
        groups[together] = under_names({name: source.parts[name] for name in together})
    found = [names for names, tensors in groups.items() if holds(tensors, family)]
    if not found and len(source.parts) > 1:
        begin = ", ".join(f"{name!r} with {next(iter(tensors))!r}" for name, tensors in source.parts.items())
        raise UserError(
            f"{source.source!r} holds no {family.name!r} weights: no key {family.anchor!r} in any of its parts, which begin "
            f"{begin}. Import it under the family it was published as"
        )
    if len(found) > 1 and ("",) not in found:  # what is nested in a state dict is beside it
        choice = " or ".join(f"{source.source}#{names[0]}" for names in found)
        raise UserError(f"{source.source!r} holds {family.name!r} weights {len(found)} times; choose: {choice}")
    names = ("",) if ("",) in found else (found or list(groups))[0]
    return _part(source, names, groups[names])


def _part(source: Published, names: tuple[str, ...], tensors: dict[str, Tensor]) -> FamilyPart:
    reason = f"lies beside {' and '.join(map(repr, names))} in the file"
    others = under_names({name: inner for name, inner in source.parts.items() if name not in names})
    return FamilyPart(", ".join(names), tensors, dict.fromkeys(others, reason))
