"""The architecture as the code has it: read from the syntax tree, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import melp_bench

ROOT = Path(__file__).parents[2]
HOST = sorted((ROOT / "melp_bench").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
LAYERS = (
    "errors canonical home signal filtering resampling windows features "
    "predictions prediction_files splits split_tables results metrics measure progress leads lead_names lead_identity",
    "components records masking pseudonyms",
    "registry code_digest normalised_source bound_values locks schema defects recipe recipes protocol protocols label_files "
    "store fetch leakage ecg_plot",
    "model embedding evaluations checkpoint published pretrain throughput",
    "hookspecs plugins",
    "runs board testing scaffold",
    "cli",
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}
NEAREST = "melp_bench.registry.nearest"
PLUGINS_MAY_READ = {
    "errors", "signal", "features", "components", "registry", "hookspecs", "published", "ecg_plot",
    "store", "leads", "lead_names", "records", "lead_identity", "metrics", "predictions",
    "evaluations", "splits", "masking", "progress", "pseudonyms",
}  # fmt: skip


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the host or of the plugins."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("melp_plugins", *parts[1:]) if parts[0] == "plugins" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, typing_only: bool = True) -> Iterator[tuple[str, int]]:
    """Yield every module that a file imports, wherever in it, with its line; by name where `from` takes a module."""
    module = tree(path)
    skipped: set[ast.AST] = set()
    if not typing_only:
        for node in ast.walk(module):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped |= {child for statement in node.body for child in ast.walk(statement)}
    package = module_name(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    for node in ast.walk(module):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
                if node.level
                else [node.module or ""]
            )
            yield from ((".".join(part for part in (*base, alias.name) if part), node.lineno) for alias in node.names)


def part_of(name: str) -> str | None:
    """Return which part of the host an imported name belongs to; None for another package or the bare `melp_bench`."""
    names = name.split(".")
    if names[0] != "melp_bench" or len(names) == 1 or names[1] in ("__version__", "*"):
        return None
    return melp_bench._MODULE_OF.get(names[1], names[1])


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_part_of_the_host_has_a_layer() -> None:
    parts = {path.relative_to(ROOT / "melp_bench").parts[0].removesuffix(".py") for path in HOST}
    assert parts - {"__init__", "__main__"} <= set(LEVEL), "a new part: give it a place in LAYERS"


def test_the_host_never_imports_a_plugin() -> None:
    found = [where(p, line) for p in HOST for name, line in imports(p) if name.split(".")[0] in ("melp_plugins", "plugins")]
    assert not found


def test_imports_go_one_way() -> None:
    wrong = []
    for path in HOST:
        own = module_name(path).split(".")[1:2]
        if not own or own[0] == "__main__":
            continue
        for name, line in imports(path, typing_only=False):
            part = part_of(name)
            if part in LEVEL and LEVEL[part] > LEVEL[own[0]]:
                wrong.append(f"{where(path, line)} {own[0]} imports {part}")
    assert not wrong


@pytest.mark.parametrize("folder", ["pretrain", "evaluations"])
def test_pretraining_and_evaluations_never_see_a_name(folder: str) -> None:
    """Neither `plugins` nor `registry`, even for a type; the hint for a misspelt word is all they may borrow."""
    paths = sorted((ROOT / "melp_bench" / folder).rglob("*.py"))
    assert paths
    found = [
        where(p, line)
        for p in paths
        for name, line in imports(p)
        if part_of(name) in ("plugins", "registry", "hookspecs") and name != NEAREST
    ]
    assert not found
    calls = [
        where(path, node.lineno)
        for path in paths
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) in ("discover", "entry_points")
    ]
    assert not calls


def test_plugins_import_the_contract_their_family_and_third_parties_only() -> None:
    wrong = []
    for path in PLUGINS:
        family = path.relative_to(ROOT / "plugins").parts[0]
        for name, line in imports(path):
            part, names = part_of(name), name.split(".")
            if part is not None and part not in PLUGINS_MAY_READ:
                wrong.append(f"{where(path, line)} imports {name}")
            # a decoder shares its encoder's blocks, and an objective says how its views are made
            allowed = (family, "ecg", "views") if family == "objectives" else (family,)
            allowed += ("layers", "info_nce")
            if names[0] == "melp_plugins" and names[1] not in allowed:
                wrong.append(f"{where(path, line)} imports {name}, of another family")
    assert not wrong


def test_the_command_line_answers_without_torch() -> None:
    heavy = {"torch", "numpy", "pandas", "transformers", "timm", "lightning", "scipy", "sklearn", "matplotlib"}
    found = []
    for path in (ROOT / "melp_bench" / "cli").rglob("*.py"):
        for node in tree(path).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{where(path, node.lineno)} {n}" for n in names if n.split(".")[0] in heavy]
    assert not found


@pytest.mark.parametrize("path", [*HOST, *PLUGINS], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_print_no_pickle_no_unsafe_load_no_assert(path: Path) -> None:
    wrong = []
    for name, line in imports(path):
        first, _, rest = name.partition(".")
        if first in ("cPickle", "dill", "cloudpickle", "shelve", "marshal") or (first == "pickle" and rest):
            wrong.append(f"{where(path, line)} imports {name}")
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Assert):
            wrong.append(f"{where(path, node.lineno)} asserts; assert is for tests")
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        flags = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called == "print":
            wrong.append(f"{where(path, node.lineno)} prints")
        if called == "torch.load" and flags.get("weights_only") != "True":
            wrong.append(f"{where(path, node.lineno)} torch.load without weights_only=True")
        if called in ("np.load", "numpy.load") and flags.get("allow_pickle", "False") != "False":
            wrong.append(f"{where(path, node.lineno)} np.load unpickles")
        unsafe = ("pickle.load", "pickle.loads", "pickle.Unpickler", "eval", "exec")
        if called in unsafe or called.split(".")[-1] in ("read_pickle", "to_pickle"):
            wrong.append(f"{where(path, node.lineno)} calls {called}")
    assert not wrong


@pytest.mark.parametrize("path", [*HOST, *PLUGINS], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_says_what_it_is_and_stays_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if text.strip():
        assert ast.get_docstring(tree(path)), f"{path.relative_to(ROOT)} has no docstring"
    assert len(text.splitlines()) <= 330, f"{path.relative_to(ROOT)} is longer than 300 lines and some slack: two ideas"


def test_no_two_files_of_the_command_line_import_each_other() -> None:
    """Nor in a longer circle, imports within functions among them."""
    paths = {module_name(path): path for path in sorted((ROOT / "melp_bench" / "cli").glob("*.py"))}
    reads = {
        name: {
            other for found, _ in imports(path) for other in paths if other != name and (found + ".").startswith(other + ".")
        }
        for name, path in paths.items()
    }
    package = "melp_bench.cli"
    reads = {name: others - {package} for name, others in reads.items() if name != package}
    while leaves := [name for name, others in reads.items() if not others]:
        reads = {name: others - set(leaves) for name, others in reads.items() if name not in leaves}
    assert not reads, f"a circle among {sorted(reads)}"


def test_no_class_name_means_two_things() -> None:
    found: dict[str, list[str]] = {}
    for path in (*HOST, *PLUGINS):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(where(path, node.lineno))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
