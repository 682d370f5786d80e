"""The one way TOML becomes a checked value, with errors a person can act on."""

from __future__ import annotations

import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from melp_bench.errors import UnknownName, UserError
from melp_bench.registry import nearest


class Frozen(BaseModel):
    """A value read from TOML: frozen, and nothing in it is ignored silently.

    Attributes:
        shorthands: keys that may be written besides the fields, and are none of them once it is read.
    """

    shorthands: ClassVar[tuple[str, ...]] = ()
    model_config = ConfigDict(frozen=True, extra="forbid")


M = TypeVar("M", bound=Frozen)


def load_toml(model: type[M], name: str, package: str, kind: str) -> M:
    """Return the `model` named `name`: a file (ends in .toml) or one of those shipped in `package`.

    Raises:
        UnknownName: there is neither a file nor a shipped one of that name.
        UserError: the TOML does not parse or does not fit.
    """
    return validated(model, *read_toml(name, package, kind))


def read_toml(name: str, package: str, kind: str) -> tuple[dict[str, Any], str]:
    """Return what the TOML file named `name`, or the one of that name in `package`, says, and what an error calls it.

    Raises:
        UnknownName: there is neither a file nor a shipped one of that name.
        UserError: the TOML does not parse.
    """
    path: Path | Traversable = Path(name)
    if name.endswith(".toml"):
        if not path.is_file():
            raise UserError(f"no {kind} file {name!r}; give a path to a .toml file or one of: {', '.join(shipped(package))}")
        where = name
    else:
        known = shipped(package)
        if name not in known:
            raise UnknownName(f"no {kind} named {name!r}{nearest(name, known)} Known: {', '.join(known)}; or give a .toml file")
        path, where = resources.files(package) / f"{name}.toml", f"{kind} {name!r}"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), where
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: not valid TOML: {error}") from error


def validated(model: type[M], data: dict[str, Any], where: str) -> M:
    """Return `data` as a `model`.

    Raises:
        UserError: it does not fit; `where` it comes from is told.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error, model)}") from error


def first_problem(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return the first of a value's problems: where, what is wrong, and, given its `model`, the key that may be meant."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_beside(first["loc"], model)
        return f"there is no key {where!r}{nearest(str(first['loc'][-1]), known)}" + (
            f" Known: {', '.join(known)}" if known else ""
        )
    given = first.get("input")
    shown = f", given {given!r}" if isinstance(given, str | int | float) and first["type"] != "json_invalid" else ""
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where + ': ' if where else ''}{first['msg']}{shown}{more}"


def _keys_beside(place: tuple[int | str, ...], model: type[BaseModel] | None) -> list[str]:
    """Return the keys that a table of `model` may hold beside the one at `place`; none where that cannot be told."""
    for part in place[:-1]:
        if model is None:
            return []
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation, place)
    return [*model.model_fields, *getattr(model, "shorthands", ())] if model is not None else []


def _model_in(annotation: Any, place: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the one model that `annotation` is made of; of several, the one whose `name` tag `place` holds."""
    found: list[type[BaseModel]] = []
    waiting = [annotation]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
        waiting.extend(get_args(kind))
    tagged = [m for m in found if "name" in m.model_fields and set(get_args(m.model_fields["name"].annotation)) & set(place)]
    chosen = tagged or found
    return chosen[0] if len(chosen) == 1 else None


def shipped(package: str) -> list[str]:
    """Return the names of the TOML files shipped in `package`."""
    return sorted(f.name.removesuffix(".toml") for f in resources.files(package).iterdir() if f.name.endswith(".toml"))
