"""What a callable carries besides its module's source: bound arguments, what it closes over, and code that has no file.

Everything comes out as plain JSON, and nothing of it is an address in memory.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any


def defined(build: object) -> list[object]:
    """Return the classes and functions that `build` is made of: itself, or what a partial, a method or an instance leads to."""
    found: list[object] = []
    waiting: list[Any] = [build]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen or not callable(value):
            continue
        seen.add(id(value))
        if isinstance(value, functools.partial):
            waiting += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, MethodType):
            waiting += [value.__func__, value.__self__]
        elif inspect.isclass(value) or inspect.isroutine(value):
            found.append(value)
            waiting += [inspect.unwrap(value), *_closed_over(value)]
        else:
            waiting.append(type(value))
    return found


def bound(build: object) -> Any:
    """Return what `build` carries as plain JSON: its name, and the values that are bound to it."""
    return _plain(build, set())


def _plain(value: object, seen: set[int]) -> Any:
    """Return `value` as plain JSON; of what has no such form, its type."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return ["float", repr(value)]
    if isinstance(value, PurePath):
        return ["path", str(value)]
    if id(value) in seen:
        return ["again"]
    seen = seen | {id(value)}
    if isinstance(value, enum.Enum):
        return [_name(type(value)), value.name]
    if isinstance(value, list | tuple):
        return [_plain(item, seen) for item in value]
    if isinstance(value, set | frozenset):
        return ["set", sorted(str(_plain(item, seen)) for item in value)]
    if isinstance(value, dict):
        return ["dict", [[_plain(key, seen), _plain(item, seen)] for key, item in value.items()]]
    if isinstance(value, functools.partial):
        return ["partial", *(_plain(part, seen) for part in (value.func, value.args, value.keywords))]
    if isinstance(value, ModuleType):
        return ["module", value.__name__]
    if isinstance(value, MethodType):
        return ["method", _plain(value.__func__, seen), _plain(value.__self__, seen)]
    if inspect.isclass(value) or inspect.isroutine(value):
        return [_name(value), *(_plain(item, seen) for item in _closed_over(value))]
    if dataclasses.is_dataclass(value):
        return [_name(type(value)), [_plain(getattr(value, field.name), seen) for field in dataclasses.fields(value)]]
    if hasattr(value, "tolist"):  # an array or a tensor
        return [_name(type(value)), _plain(value.tolist(), seen)]
    return [_name(type(value)), _plain(dict(getattr(value, "__dict__", {})), seen)]


def _closed_over(value: object) -> Iterator[object]:
    """Yield what a function, or the methods of a class that a function made, close over."""
    if isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            if content is not value:
                yield content
    elif inspect.isclass(value) and "<locals>" in value.__qualname__:
        for item in vars(value).values():
            yield from (inner for inner in _closed_over(getattr(item, "__func__", item)) if inner is not value)


def _name(value: object) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


# ------------------------------------------------------------------------------------------------- code without a file


def live_code(value: object) -> list[str]:
    """Return the code of a class or function that was typed in rather than read from a file, with all of it that it uses.

    It is the interpreter's own code, in which comments and layout have no place; docstrings are left out.
    """
    words: list[str] = []
    _live(value, words, set())
    return words


def _live(value: object, words: list[str], seen: set[int]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FunctionType):
        words.append(f"function {value.__qualname__}")
        words += _code(value.__code__, value.__doc__)
        words += [str(_plain(part, set())) for part in (value.__defaults__, value.__kwdefaults__)]
        for name in sorted(_names(value.__code__)):
            if name in value.__globals__:
                _used(name, value.__globals__[name], value.__module__, words, seen)
    elif inspect.isclass(value):
        words.append(f"class {value.__qualname__}")
        for base in value.__bases__:
            _used("base", base, value.__module__, words, seen)
        for name, item in vars(value).items():
            if not (name.startswith("__") and name.endswith("__")) or isinstance(item, FunctionType):
                for inner in _functions(item):
                    _used(name, inner, value.__module__, words, seen)


def _used(name: str, value: object, module: str, words: list[str], seen: set[int]) -> None:
    """Write down what live code names: other live code by its own code, everything else by name and value."""
    words.append(name)
    if (inspect.isclass(value) or isinstance(value, FunctionType)) and value.__module__ == module:
        _live(value, words, seen)
    else:
        words.append(str(_plain(value, set())))


def _functions(item: object) -> Iterable[object]:
    """Return the functions in an attribute of a class: of a property all three."""
    if isinstance(item, property):
        return [part for part in (item.fget, item.fset, item.fdel) if part is not None]
    return [getattr(item, "__func__", item)]


def _code(code: CodeType, doc: object) -> list[str]:
    words = [code.co_code.hex(), str(code.co_names), str(code.co_varnames), str(code.co_freevars)]
    for value in code.co_consts:
        if isinstance(value, CodeType):
            words += _code(value, None if value.co_name.startswith("<") else next(iter(value.co_consts), None))
        elif value is None or value is not doc:
            words.append(repr(value) if not isinstance(value, frozenset) else str(sorted(map(repr, value))))
    return words


def _names(code: CodeType) -> set[str]:
    """Return every name that code, and the code within it, looks up."""
    return set(code.co_names).union(*(_names(c) for c in code.co_consts if isinstance(c, CodeType)))
