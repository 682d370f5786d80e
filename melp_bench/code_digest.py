"""The code of a component as one digest: edit what it computes, and everything it made is of another identity.

What counts, normalised (see `normalised_source`):

- the module that defines `build` and, from there, every module of the same distribution that is imported, wherever the import
  stands, with the `__init__` of the packages around them; a folder of modules that belongs to no distribution counts as one;
- modules of `melp_plugins`, and the host's own `SHARED` arithmetic, whoever imports them;
- data files that lie in the folder of such a module and are named, as a text, in its source;
- what `build` carries: arguments of a partial, values it closes over; the code itself where there is no file (a notebook);
- the version of a stranger's distribution.

What does not: other distributions, which have versions of their own; the rest of the host, see `melp_bench.runs.versions`;
modules whose names are put together while the program runs. Nothing is imported for a digest. What a module's file said is
read once: a process that goes on with old code goes on with the old digest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from melp_bench.bound_values import bound, defined, live_code
from melp_bench.canonical import digest
from melp_bench.normalised_source import ImportedName, ModuleSource, normalise

if TYPE_CHECKING:
    from melp_bench.registry import Entry

HOST, PLUGINS = "melp-bench", "melp_plugins"
SHARED = (
    "melp_bench.lead_identity",
    "melp_bench.lead_names",
    "melp_bench.leads",
    "melp_bench.masking",
    "melp_bench.metrics.calibration",
    "melp_bench.metrics.ranking",
    "melp_bench.metrics.threshold",
    "melp_bench.pseudonyms",
    "melp_bench.splits",
)
"""Modules of the host that compute for plugins and have no version of their own."""
INSTALLED = ("site-packages", "dist-packages")

logger = logging.getLogger(__name__)
_read: dict[str, tuple[ModuleSpec | None, ModuleSource | None]] = {}  # module -> its spec when it was read, and what was read


def code_digest(entry: Entry[Any]) -> str:
    """Return the SHA-256 of the code of a component; see above for what is in it."""
    distribution = entry.plugin.partition(":")[0] if ":" in entry.plugin else ""
    strangers = distribution if distribution != HOST else ""
    parts = defined(entry.build)
    roots = {name for part in parts if (name := _module_of(part)) and (_is_counted(name) or _top(name) != "melp_bench")}
    own = _own_modules(distribution, tuple(sorted(roots)))
    content: dict[str, Any] = {"build": bound(entry.build)}
    content["modules"] = dict(_followed(roots, own))
    content["live"] = [live_code(part) for part in parts if _source(_module_of(part)) is None]
    if strangers:
        content["distribution"] = [strangers, _version(strangers)]
    if not content["modules"] and not any(content["live"]):
        logger.warning("the source of %r cannot be read: an edit of it will not be noticed, a new version will", entry.name)
    return digest(content)


def _module_of(part: object) -> str:
    """Return the name of the module that defines a class or function, as it is imported."""
    name = getattr(part, "__module__", None) or ""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec.name if name == "__main__" and spec is not None else name


def _followed(roots: Iterable[str], own: OwnModules) -> Iterator[tuple[str, str]]:
    """Yield name and digest of the `roots` and of every own module that is imported from there."""
    waiting, seen = list(roots), set(roots)
    while waiting:
        name = waiting.pop()
        source = _source(name)
        if source is None:
            continue
        yield name, _with_data(name, source)
        found = {module for one in source.imports for module in _resolved(name, one)}
        found |= {name.rpartition(".")[0]}
        for module in found - seen:
            seen.add(module)
            if module and (_is_counted(module) or own.holds(module)):
                waiting.append(module)


def _resolved(name: str, imported: ImportedName) -> Iterator[str]:
    """Yield the modules that an import in module `name` may mean: `from a import b` means a, and perhaps a.b."""
    base = imported.module
    if imported.level:
        spec = _spec(name)
        package = name.split(".") if spec is not None and spec.submodule_search_locations is not None else name.split(".")[:-1]
        above = package[: len(package) - imported.level + 1]
        base = ".".join([*above, base] if base else above)
    whole = [base, f"{base}.{imported.name}"] if imported.name else [base]
    if base.startswith("melp_bench.") and imported.name:  # whose packages pass on names of their modules
        whole.append(getattr(getattr(sys.modules.get(base), imported.name, None), "__module__", None) or base)
    for module in whole:
        names = module.split(".")
        yield from (".".join(names[: n + 1]) for n in range(len(names)))


def _is_counted(module: str) -> bool:
    """Return whether a module counts for everyone who imports it."""
    return _top(module) == PLUGINS or module in SHARED


def _top(module: str) -> str:
    return module.partition(".")[0]


# ------------------------------------------------------------------------------------------------- a distribution's own


@dataclass(frozen=True)
class OwnModules:
    """Which modules belong to the distribution of a component.

    Attributes:
        names: top-level names.
        files: of an installed distribution; consulted for namespace packages, which several distributions share.
        folders: of an editable distribution, or of modules that belong to none.
    """

    names: frozenset[str]
    files: frozenset[str] = frozenset()
    folders: tuple[Path, ...] = ()

    def holds(self, module: str) -> bool:
        """Return whether `module` is one of them."""
        top = _top(module)
        if top in sys.stdlib_module_names or (top not in self.names and not self.folders) or top == "melp_bench":
            return False
        whole = _spec(top)
        if top in self.names and whole is not None and whole.origin is not None:
            return True
        spec = _spec(module)
        if spec is None or not spec.origin:
            return False
        path = Path(spec.origin)
        inside = (path.relative_to(folder) for folder in self.folders if path.is_relative_to(folder))
        return spec.origin in self.files or any(not set(INSTALLED) & set(rest.parts) for rest in inside)


@lru_cache(maxsize=256)
def _own_modules(distribution: str, roots: tuple[str, ...]) -> OwnModules:
    """Return the modules of a distribution, or those around `roots` where there is none."""
    names = {_top(root) for root in roots if root != "__main__"}
    try:
        found = metadata.distribution(distribution) if distribution else None
    except metadata.PackageNotFoundError:
        found = None
    if distribution == HOST:
        return OwnModules(frozenset({PLUGINS}))
    if found is None:
        origins = [_file(root) for root in roots if "." not in root]
        folders = {path.parent for path in origins if path is not None and path.name != "__init__.py"}
        alone = tuple(sorted(folder for folder in folders if not set(INSTALLED) & set(folder.parts)))
        return OwnModules(frozenset(names), folders=alone)
    listed = [file for file in found.files or [] if file.suffix in (".py", ".so", ".pyd")]
    names |= {file.parts[0].partition(".")[0] for file in listed if file.parts[0] not in ("..", "__pycache__")}
    names |= set((found.read_text("top_level.txt") or "").split())
    files = frozenset(str(found.locate_file(file)) for file in listed)
    return OwnModules(frozenset(names), files, _editable(found))


def _editable(distribution: metadata.Distribution) -> tuple[Path, ...]:
    """Return the folder that an editable distribution is in; nothing for one that was copied."""
    try:
        told = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return ()
    url = urlsplit(str(told.get("url", "")))
    return (Path(unquote(url.path)),) if told.get("dir_info", {}).get("editable") and url.scheme == "file" else ()


@lru_cache(maxsize=64)
def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


# --------------------------------------------------------------------------------------------------- from name to source


def _spec(module: str) -> ModuleSpec | None:
    """Return where a module comes from, without importing it or anything around it; None if nobody knows."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        return getattr(loaded, "__spec__", None)
    return _looked_up(module)


@lru_cache(maxsize=4096)
def _looked_up(module: str) -> ModuleSpec | None:
    """Return the spec of a module that is not loaded."""
    parent = module.rpartition(".")[0]
    path: list[str] | None = None
    if parent:
        around = _spec(parent)
        if around is None or around.submodule_search_locations is None:
            return None
        path = list(around.submodule_search_locations)
    for finder in sys.meta_path:
        try:
            found = finder.find_spec(module, path)
        except (ImportError, AttributeError, ValueError, OSError):
            continue
        if found is not None:
            return found
    return None


def _file(module: str) -> Path | None:
    """Return the file of a module; None for a namespace, or for what has no file."""
    spec = _spec(module)
    origin = spec.origin if spec is not None else getattr(sys.modules.get(module), "__file__", None)
    return Path(origin) if origin else None


def _source(module: str) -> ModuleSource | None:
    """Return a module's source, normalised, as it was when it was first asked for; a compiled module counts byte by byte."""
    spec = _spec(module)
    if module in _read and _read[module][0] is spec:
        return _read[module][1]
    found = _read_source(module, spec)
    _read[module] = (spec, found)
    return found


def _read_source(module: str, spec: ModuleSpec | None) -> ModuleSource | None:
    if spec is None:  # a script, or what was typed in
        file = _file(module)
        return normalise(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else None
    try:
        text = spec.loader.get_source(spec.name)  # type: ignore[union-attr]
    except (ImportError, AttributeError, OSError, SyntaxError, UnicodeError):
        text = None
    if text is not None:
        return normalise(text)
    if spec.origin and Path(spec.origin).is_file():
        return ModuleSource(hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest(), (), ())
    return None


def _with_data(module: str, source: ModuleSource) -> str:
    """Return the digest of a module with the data files that it names and that lie in its folder."""
    file = _file(module)
    if file is None or not source.file_names:
        return source.digest
    named = [(name, file.parent / name) for name in source.file_names if not name.endswith(".py") and ".." not in name]
    data = {name: _file_digest(str(path), path.stat().st_mtime_ns) for name, path in named if path.is_file()}
    return digest([source.digest, data]) if data else source.digest


@lru_cache(maxsize=256)
def _file_digest(path: str, _changed: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
