"""Python source as what it does: a digest that comments, docstrings, layout, hints and the order of imports do not move.

What a plugin's hook says of an entry in prose (`summary`, `source`, `license`) does not count either.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

FILE_NAME = re.compile(r"(?:[\w-]+/)*[\w.-]+\.[A-Za-z]\w{0,9}")
PROSE = ("name", "build", "summary", "source", "license")  # the parameters of `Entry` in order; the last three are prose
SILENT = ("type_comment", "type_ignores", "kind", "annotation", "returns", "ctx")


@dataclass(frozen=True)
class ImportedName:
    """One name that a module imports: `from module import name`, or `import module`, where `name` is empty.

    Attributes:
        level: the number of dots before `module`.
    """

    level: int
    module: str
    name: str = ""


@dataclass(frozen=True)
class ModuleSource:
    """A module's source, normalised.

    Attributes:
        digest: SHA-256 of what it does.
        imports: what it imports, at whatever place, but for a type checker.
        file_names: its texts that could name a data file.
    """

    digest: str
    imports: tuple[ImportedName, ...]
    file_names: tuple[str, ...]


@lru_cache(maxsize=1024)
def normalise(text: str) -> ModuleSource:
    """Return the source `text` normalised; text that does not parse counts letter by letter."""
    try:
        reading = _Reading()
        reading.module(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError):
        return ModuleSource(hashlib.sha256(text.encode()).hexdigest(), (), ())
    content = "\0".join(reading.words)
    return ModuleSource(hashlib.sha256(content.encode()).hexdigest(), tuple(reading.imports), tuple(sorted(reading.file_names)))


class _Reading:
    """One walk over a syntax tree, which writes down what counts."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.imports: list[ImportedName] = []
        self.file_names: set[str] = set()

    def module(self, tree: ast.Module) -> None:
        """Read a module: its imports as a sorted list, then everything else in order."""
        found = [statement for statement in tree.body if isinstance(statement, ast.Import | ast.ImportFrom)]
        self.words += sorted(word for statement in found for word in self._imported(statement))
        for statement in tree.body:
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                self._node(statement, in_class=False, in_hook=False)

    def _imported(self, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        """Note what is imported, and yield it as words; the future needs no word."""
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            return
        for alias in node.names:
            if isinstance(node, ast.Import):
                self.imports.append(ImportedName(0, alias.name))
            else:
                self.imports.append(ImportedName(node.level, node.module or "", alias.name))
            bound = alias.asname or ""
            yield f"{self.imports[-1].level}:{self.imports[-1].module}:{self.imports[-1].name}:{bound}"

    def _node(self, node: ast.AST, *, in_class: bool, in_hook: bool) -> None:
        """Write a node down by its kind and, by name, what its fields hold; empty fields are left out."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.words += self._imported(node)
            return
        if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and _is_text(node.value)):
            return
        if isinstance(node, ast.If) and _for_type_checkers(node.test):
            self._all(node.orelse, in_class=in_class, in_hook=in_hook)
            return
        if isinstance(node, ast.AnnAssign) and not in_class:
            self._hinted(node, in_hook=in_hook)
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            in_class = isinstance(node, ast.ClassDef)
            in_hook = in_hook or (not in_class and node.name.startswith("melp_"))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and FILE_NAME.fullmatch(node.value):
            self.file_names.add(node.value)
        if in_hook and isinstance(node, ast.Call) and _ends(node.func) == "Entry":
            named = [one for one in node.keywords if one.arg not in PROSE[2:]]
            node = ast.Call(node.func, node.args[:2], named)
        self.words.append(f"({type(node).__name__}")
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or (name in SILENT and not isinstance(node, ast.AnnAssign)):
                continue
            self.words.append(name)
            self._value(value, in_class=in_class, in_hook=in_hook)
        self.words.append(")")

    def _value(self, value: object, *, in_class: bool, in_hook: bool) -> None:
        """Write down what a field holds."""
        if isinstance(value, ast.AST):
            self._node(value, in_class=in_class, in_hook=in_hook)
        elif isinstance(value, list):
            self._all(value, in_class=in_class, in_hook=in_hook)
        else:
            self.words.append(f"{type(value).__name__}:{value!r}")

    def _all(self, values: Sequence[object], *, in_class: bool, in_hook: bool) -> None:
        self.words.append("[")
        for value in values:
            self._value(value, in_class=in_class, in_hook=in_hook)
        self.words.append("]")

    def _hinted(self, node: ast.AnnAssign, *, in_hook: bool) -> None:
        """Write `name: hint = value` down as `name = value`; a hint alone does nothing."""
        if node.value is not None:
            assigned = ast.Assign([node.target], node.value)
            self._node(assigned, in_class=False, in_hook=in_hook)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _for_type_checkers(test: ast.expr) -> bool:
    return _ends(test) == "TYPE_CHECKING"


def _ends(node: ast.expr) -> str:
    """Return the last name of `name` or `a.b.name`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
