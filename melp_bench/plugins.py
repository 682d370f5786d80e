"""Discovery: entry points in, a `Catalogue` out. A plugin that fails hides nobody.

An entry point names a module, or a package whose modules are plugins: each is then loaded on its own.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from types import ModuleType
from typing import Any, TypeGuard

import pluggy

from melp_bench import hookspecs
from melp_bench.components import ECGEncoder, Heads, Objective, TextEncoder, View
from melp_bench.errors import UserError
from melp_bench.evaluations import Evaluation
from melp_bench.metrics import Metric
from melp_bench.progress import RunLogger
from melp_bench.records import Dataset
from melp_bench.registry import Entry, Registry, nearest

GROUP = "melp_bench"
OWN = "melp-bench"
"""The distribution whose components come first: a stranger that takes one of their names is told so."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
HOOKS = {
    "melp_ecg_encoders": "ecg_encoders",
    "melp_text_encoders": "text_encoders",
    "melp_heads": "heads",
    "melp_objectives": "objectives",
    "melp_views": "views",
    "melp_evaluations": "evaluations",
    "melp_metrics": "metrics",
    "melp_datasets": "datasets",
    "melp_loggers": "loggers",
}


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that could not be loaded, and why."""

    name: str
    distribution: str
    reason: str


@dataclass(frozen=True)
class Catalogue:
    """Everything that installed plugins offer, and the plugins that failed."""

    ecg_encoders: Registry[ECGEncoder] = field(default_factory=lambda: Registry("ECG encoder"))
    text_encoders: Registry[TextEncoder] = field(default_factory=lambda: Registry("text encoder"))
    heads: Registry[Heads] = field(default_factory=lambda: Registry("heads"))
    objectives: Registry[Objective] = field(default_factory=lambda: Registry("objective"))
    views: Registry[View] = field(default_factory=lambda: Registry("view"))
    evaluations: Registry[Evaluation] = field(default_factory=lambda: Registry("evaluation"))
    metrics: Registry[Metric] = field(default_factory=lambda: Registry("metric"))
    datasets: Registry[Dataset] = field(default_factory=lambda: Registry("dataset"))
    loggers: Registry[RunLogger] = field(default_factory=lambda: Registry("logger"))
    broken: list[BrokenPlugin] = field(default_factory=list)

    def registries(self) -> tuple[Registry[Any], ...]:
        """Return the registries, in the order of the hooks."""
        return tuple(getattr(self, kind) for kind in HOOKS.values())


def discover(points: Iterable[metadata.EntryPoint] | None = None) -> Catalogue:
    """Return the catalogue of all installed plugins, each loaded in its own `try`."""
    catalogue = Catalogue()
    found = metadata.entry_points(group=GROUP) if points is None else points
    for point in sorted(found, key=lambda p: (p.dist is None or p.dist.name != OWN, p.name)):
        distribution = point.dist.name if point.dist is not None else ""
        _load(catalogue, point.name, point.load, distribution)
    return catalogue


def _load(catalogue: Catalogue, name: str, load: Callable[[], object], distribution: str) -> None:
    """Add what a plugin offers; of a package without hooks of its own, what each of its modules offers, one by one."""
    try:
        plugin = load()
        if _is_folder_of_plugins(plugin):
            for module in pkgutil.iter_modules(plugin.__path__):
                inner = f"{plugin.__name__}.{module.name}"
                _load(catalogue, inner, partial(_module_with_hooks, inner), distribution)
        elif plugin is not None:
            register(catalogue, plugin, name, distribution)
    except (Exception, SystemExit) as error:  # a stranger's code: whatever it raises is reported, and hides nobody else
        reason = str(error) if isinstance(error, UserError) else " ".join(f"{type(error).__name__}: {error}".split())
        catalogue.broken.append(BrokenPlugin(name, distribution, reason))


def _is_folder_of_plugins(plugin: object) -> TypeGuard[ModuleType]:
    return isinstance(plugin, ModuleType) and hasattr(plugin, "__path__") and not _has_hooks(plugin)


def _module_with_hooks(name: str) -> ModuleType | None:
    """Return a module of a folder of plugins; None where it offers nothing and is only read by its neighbours."""
    module = importlib.import_module(name)
    return module if _has_hooks(module) or hasattr(module, "__path__") else None


def _has_hooks(plugin: object) -> bool:
    """Return whether an object has a hook, well or ill spelt."""
    return any(_may_be_hook(name, getattr(plugin, name, None)) for name in dir(plugin))


def _may_be_hook(name: str, value: object) -> bool:
    return inspect.isroutine(value) and (_is_marked(value) or name.startswith("melp_"))


def _is_marked(value: object) -> bool:
    return isinstance(getattr(value, f"{hookspecs.PROJECT}_impl", None), dict)  # as pluggy asks


def register(catalogue: Catalogue, plugin: object, name: str, distribution: str = "") -> None:
    """Add everything `plugin` offers to the catalogue, or nothing of it.

    Raises:
        UserError: a hook is misspelt or not marked, what it returns are not entries, or a name is taken.
    """
    _check_hooks(plugin, name)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name=name)
    manager.check_pending()
    callers = {caller.name for caller in manager.get_hookcallers(plugin) or ()}
    if not callers:
        raise UserError(f"plugin {name!r} implements no hook; mark one of {', '.join(HOOKS)} with @melp_bench.hookimpl")
    added: list[tuple[Registry[Any], str]] = []
    try:
        for hook, kind in HOOKS.items():
            if hook not in callers:
                continue
            registry: Registry[Any] = getattr(catalogue, kind)
            for entry in _entries(getattr(manager.hook, hook)(), name, hook):
                registry.add(replace(entry, plugin=f"{distribution}:{name}" if distribution else name))
                added.append((registry, entry.name))
    except (Exception, SystemExit):
        for registry, entry_name in added:
            registry.remove(entry_name)
        raise


def _check_hooks(plugin: object, name: str) -> None:
    for attribute in dir(plugin):
        value = getattr(plugin, attribute, None)
        if not _may_be_hook(attribute, value):
            continue
        if attribute not in HOOKS:
            raise UserError(f"plugin {name!r} has a hook {attribute!r} that does not exist{nearest(attribute, list(HOOKS))}")
        if not _is_marked(value):
            raise UserError(f"plugin {name!r}: {attribute} is not marked; put @melp_bench.hookimpl above it")


def _entries(returned: list[object], plugin: str, hook: str) -> list[Entry[Any]]:
    """Return the checked entries of one hook of one plugin; pluggy leaves out a hook that returned None."""
    found: object = returned[0] if returned else None
    if not isinstance(found, list | tuple):
        raise UserError(f"plugin {plugin!r}: {hook} returned {type(found).__name__!r}; wanted a list of melp_bench.Entry")
    for entry in found:
        _check_entry(entry, plugin, hook)
    return list(found)


def _check_entry(entry: object, plugin: str, hook: str) -> None:
    if not isinstance(entry, Entry):
        raise UserError(f"plugin {plugin!r}: {hook} returned {type(entry).__name__!r}; wanted melp_bench.Entry")
    if not isinstance(entry.name, str) or not NAME.fullmatch(entry.name):
        raise UserError(f"plugin {plugin!r}: {hook} offers the name {entry.name!r}; wanted letters, digits and . _ + - only")
    if not callable(entry.build):
        raise UserError(f"plugin {plugin!r}: build of {entry.name!r} is {entry.build!r}; wanted something callable")
    for parameter in inspect.signature(entry.build).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            raise UserError(f"plugin {plugin!r}: build of {entry.name!r} takes **{parameter.name}; name its options instead")
