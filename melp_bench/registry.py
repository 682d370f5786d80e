"""Names to components: an `Entry` is what a plugin offers, a `Registry` finds it by name."""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_type_hints

from melp_bench.errors import UnknownName, UserError

if TYPE_CHECKING:
    from melp_bench.published.family import Family

T = TypeVar("T")


def nearest(name: str, known: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    """Return "; did you mean 'x'?" for the known name closest to `name`, else a full stop."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One component a plugin offers. Options are the keyword-only arguments of `build`."""

    name: str
    build: Callable[..., T]
    summary: str
    source: str = ""  # paper or page
    license: str = ""  # the field's word in Python packaging
    published: Family | None = None  # how its published checkpoints are spelt; None if there are none
    reads: Callable[..., Mapping[str, str]] | None = None  # see `read_digests`; None if it starts from nothing but its seed
    plugin: str = field(default="", compare=False)  # filled in by discovery

    @property
    def license_note(self) -> str:
        """The licence, with what a reader may miss: that it allows no commercial use (Creative Commons' NC)."""
        forbids = "NC" in re.split(r"[\s-]", self.license)
        return f"{self.license} (no commercial use)" if forbids else self.license

    def options(self) -> dict[str, inspect.Parameter]:
        """Return the keyword-only parameters of `build` by name."""
        parameters = inspect.signature(self.build).parameters
        return {n: p for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return `options` completed with the defaults, checked against the signature of `build`.

        Text values (as typed on a command line) become the type of the default; where that is None or missing, of the
        annotation.

        Raises:
            UserError: an option is unknown, missing, or not of the default's type.
        """
        known = self.options()
        for name in options:
            if name not in known:
                hint = f"{nearest(name, list(known))} Its options: {', '.join(known) or 'none'}"
                raise UserError(f"{self.name!r} has no option {name!r}{hint}")
        resolved: dict[str, Any] = {}
        for name, parameter in known.items():
            if name in options:
                resolved[name] = self._coerce(name, options[name], parameter.default)
            elif parameter.default is inspect.Parameter.empty:
                raise UserError(f"{self.name!r} needs the option {name!r}; give it as {name}=VALUE")
            else:
                resolved[name] = parameter.default
        return resolved

    def read_digests(self, options: Mapping[str, Any]) -> dict[str, str]:
        """Return the digests, by name, of the files from elsewhere that `build` with these options reads weights or words from.

        The plugin says it by `reads`, a function of the same options as `build`. Two builds with the same digests start alike;
        a model of a hub that was changed there is another one.
        """
        return dict(self.reads(**self.resolve(options))) if self.reads is not None else {}

    def _coerce(self, name: str, value: Any, default: Any) -> Any:
        """Return `value` as the type of `default`."""
        given = default is not inspect.Parameter.empty and default is not None
        wanted = type(default) if given else _annotated(self.build, name)
        if wanted is None or (value is None and default is None):
            return value
        try:
            return _as_type(value, wanted, default)
        except ValueError as error:
            example = f", as its default {default!r}" if given else ""
            raise UserError(f"option {name!r} of {self.name!r} is {value!r}; wanted {wanted.__name__}{example}") from error


BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _as_type(value: Any, wanted: type, default: Any = None) -> Any:
    """Return `value` as `wanted`; text is read, an int may be a float, a list a tuple.

    Raises:
        ValueError: it cannot be.
    """
    if isinstance(value, str) and wanted is not str:
        if wanted is bool and value.lower() in BOOLEANS:
            return BOOLEANS[value.lower()]
        if wanted in (int, float):
            value = wanted(value)
        elif wanted is tuple:
            inner = type(default[0]) if default else str
            if value.lstrip().startswith("["):  # a list in which names have commas
                return tuple(_as_type(part, inner) for part in json.loads(value))
            return tuple(_as_type(part.strip(), inner) for part in value.split(",") if part.strip())
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if wanted is tuple and isinstance(value, list | tuple):
        return tuple(_as_type(part, type(default[0])) for part in value) if default else tuple(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ValueError(f"{value!r} is no {wanted.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not finite")
    return value


def _annotated(build: Callable[..., Any], name: str) -> type | None:
    """Return the plain type that `build` annotates an option with, `int` for `int | None`; None where it takes others."""
    try:
        hints = get_type_hints(build.__init__ if inspect.isclass(build) else build)
    except (NameError, TypeError, AttributeError):  # annotations of a stranger's module, which only a type checker may know
        return None
    hint = hints.get(name)
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    return kinds[0] if kinds and all(kind in (bool, int, float, str) for kind in kinds) else None


class Registry(Generic[T]):
    """The entries of one kind, by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def add(self, entry: Entry[T]) -> None:
        """Add an entry.

        Raises:
            UserError: the name is taken; both plugins are named.
        """
        if entry.name in self._entries:
            other = self._entries[entry.name]
            raise UserError(
                f"{self.kind} {entry.name!r} is offered by plugin {other.plugin!r} and by plugin {entry.plugin!r}; rename one"
            )
        self._entries[entry.name] = entry

    def remove(self, name: str) -> None:
        """Forget an entry."""
        del self._entries[name]

    def __getitem__(self, name: str) -> Entry[T]:
        if name not in self._entries:
            hint = f"{nearest(name, self._entries)} Known: {', '.join(sorted(self._entries)) or 'none'}"
            raise UnknownName(f"no {self.kind} named {name!r}{hint}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(sorted(self._entries.values(), key=lambda e: e.name))

    def __len__(self) -> int:
        return len(self._entries)
