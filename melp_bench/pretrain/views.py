"""Views as the loop makes them: which part of a record each looks at, and each made once.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from melp_bench.components import Objective, View
from melp_bench.errors import UserError
from melp_bench.signal import SignalSpec

Part = tuple[float, float]
WHOLE: Part = (0.0, 1.0)
Views = Mapping[str, Sequence[View]]
"""By the name that an objective knows them by: what is done to a record, one after the other."""


def looked_at(views: Sequence[View]) -> Part:
    """Return the share of a record that views made one after the other look at: a half of a half is a quarter."""
    begin, end = WHOLE
    for view in views:
        first, last = view.part
        begin, end = begin + first * (end - begin), begin + last * (end - begin)
    return begin, end


def views_of(term: str, objective: Objective, named: Views) -> Views:
    """Return an objective's views, with those that a recipe names in their place.

    Raises:
        UserError: the recipe names a view that the objective has not.
    """
    own = dict(objective.views())
    unknown = [name for name in named if name not in own]
    if unknown:
        raise UserError(f"views {unknown} of {term!r}: it has no such view; it has {', '.join(own) or 'none'}")
    return own | dict(named)


def at_spec(named: Views, spec: SignalSpec) -> Views:
    """Return views for records as `spec` asks for.

    Raises:
        UserError: a view makes no sense of such records.
    """
    return {name: [view.at(spec) for view in made] for name, made in named.items()}


def make_views(
    views: Mapping[str, Views], parts: Mapping[Part, Tensor], generator: torch.Generator
) -> dict[str, dict[str, Tensor]]:
    """Return term -> name -> view (B, L, T), out of the conformed `parts` of the records.

    Where two terms have a view of one name that is made alike, both are given the same tensor.
    """
    known: dict[str, list[tuple[Sequence[View], Tensor]]] = {}
    found: dict[str, dict[str, Tensor]] = {}
    for term, named in views.items():
        found[term] = {}
        for name, made in named.items():
            alike = known.setdefault(name, [])
            signal = next((tensor for other, tensor in alike if list(other) == list(made)), None)
            if signal is None:
                signal = parts[looked_at(made)]
                for view in made:
                    signal = view(signal, generator)
                alike.append((made, signal))
            found[term][name] = signal
    return found
