"""Views that a recipe names become objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from melp_bench.components import View
from melp_bench.errors import UserError
from melp_bench.pretrain.views import Views
from melp_bench.registry import Entry, Registry

NamedViews = Mapping[str, Sequence[Mapping[str, Any]]]
"""As a recipe writes them: views = { view1 = [{ name = "crop-resize", shortest = 0.5 }, { name = "noise" }] }."""


def build_views(named: NamedViews, registry: Registry[View]) -> Views:
    """Return what each view is made of, built from the registry.

    Raises:
        UnknownName: there is no such view.
        UserError: one names no view, or an option is unknown or out of its range.
    """
    return {name: [_build(name, one, registry) for one in made] for name, made in named.items()}


def entries_of(named: NamedViews, registry: Registry[View]) -> list[Entry[View]]:
    """Return the entries that are named, whose code the weights depend on."""
    return [registry[_name(view, one)] for view, made in named.items() for one in made]


def _build(view: str, one: Mapping[str, Any], registry: Registry[View]) -> View:
    entry = registry[_name(view, one)]
    return entry.build(**entry.resolve({option: value for option, value in one.items() if option != "name"}))


def _name(view: str, one: Mapping[str, Any]) -> str:
    name = one.get("name") if isinstance(one, Mapping) else None
    if not isinstance(name, str):
        raise UserError(f'view {view!r} is made of {one!r}; wanted {{ name = "crop-resize", OPTION = ... }}')
    return name
