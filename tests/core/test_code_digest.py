"""A component's digest moves with what it computes, and with nothing else."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import melp_bench
from melp_bench import code_digest as under_test
from melp_bench.code_digest import SHARED, code_digest
from melp_bench.plugins import discover
from melp_bench.registry import Entry
from melp_bench.runs.versions import versions

ROOT = Path(melp_bench.__file__).parents[1]
ENCODER = '''
"""An encoder."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING

from {package}.layers import pool

if TYPE_CHECKING:
    from {package}.unused import Word


class Encoder:
    """A class."""

    def __init__(self, *, depth: int = 1) -> None:
        self.depth = depth

    def forward(self, x: list[float]) -> float:
        # the mean
        total: float = math.fsum(x)
        return pool(total) / len(x)


def build(*, depth=1):
    return Encoder(depth=depth)


def melp_ecg_encoders():
    return [Entry(name="mine", build=build, summary="an encoder")]
'''
LAYERS = "from . import deeper\n\n\ndef pool(x):\n    return deeper.FACTOR * x\n"
Digest = Callable[..., str]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Leave no made-up module behind."""
    yield
    for name in made_up():
        del sys.modules[name]


def made_up() -> list[str]:
    """Return the names of loaded modules that a test here made; modules of other tests stay what they are."""
    made = [name for name in sys.modules if name.startswith("made_")]
    return [name for name in made if not str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT))]


def fresh(module: str) -> Any:
    """Return a made-up module as a process that starts now would import it."""
    for name in made_up():
        del sys.modules[name]
    importlib.invalidate_caches()
    for cache in (under_test._looked_up, under_test._own_modules):
        cache.cache_clear()
    return importlib.import_module(module)


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Digest:
    """Return the function that writes a package and returns the digest of its encoder as a process that starts now would."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def read(**files: str) -> str:
        folder = tmp_path / "made_one"
        folder.mkdir(exist_ok=True)
        told = {
            "__init__": "",
            "encoder": ENCODER,
            "layers": LAYERS,
            "deeper": "FACTOR = 2\n",
            "unused": "Word = str\n",
        } | files
        for name, text in told.items():
            (folder / f"{name}.py").write_text(text.replace("{package}", "made_one"), encoding="utf-8")
        return code_digest(Entry("mine", fresh("made_one.encoder").build, ""))

    return read


def test_what_it_computes_moves_it(digest: Digest) -> None:
    first = digest()
    assert digest() == first
    assert digest(encoder=ENCODER.replace("/ len(x)", "/ (len(x) + 1)")) != first
    assert digest(encoder=ENCODER.replace("depth: int = 1", "depth: int = 2")) != first
    assert digest(encoder=ENCODER.replace("math.fsum", "sum")) != first


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("# the mean", "# the mean, which is the sum over the count"),
        ('"""A class."""', '"""A class of which more could be said."""'),
        ('"""An encoder."""', ""),
        ("pool(total) / len(x)", "(\n            pool(total)\n            / len(x)\n        )"),
        ("x: list[float]", "x"),
        ("total: float = ", "total = "),
        ("import math\nfrom typing import TYPE_CHECKING\n", "from typing import TYPE_CHECKING\nimport math\n"),
        ("    from {package}.unused import Word", "    from {package}.unused import Word as W"),
        ('summary="an encoder"', 'summary="the encoder of a test", license="MIT"'),
        ("self.depth = depth\n", 'self.depth = depth\n        """How deep it is."""\n'),
    ],
    ids=lambda text: " ".join(text.split())[:30],
)
def test_comments_docstrings_layout_hints_and_the_order_of_imports_do_not(digest: Digest, was: str, now: str) -> None:
    assert was in ENCODER
    assert digest(encoder=ENCODER.replace(was, now)) == digest()


def test_prose_counts_outside_a_hook(digest: Digest) -> None:
    code = 'def build(*, depth=1):\n    return Entry(1, 2, summary="{}")\n'
    assert digest(encoder=code.replace("{}", "a")) != digest(encoder=code.replace("{}", "b"))


def test_modules_of_its_own_package_count_however_far(digest: Digest) -> None:
    first = digest()
    assert digest(layers=LAYERS.replace("FACTOR * x", "FACTOR + x")) != first
    assert digest(deeper="FACTOR = 3\n") != first
    assert digest(__init__="import sys\nsys.setrecursionlimit(5000)\n") != first
    assert digest(layers="# the pooling\n" + LAYERS) == first


def test_what_only_a_type_checker_reads_does_not_count(digest: Digest) -> None:
    assert digest(unused="Word = bytes\n") == digest()


def test_an_import_within_a_function_counts(digest: Digest) -> None:
    late = "def build(*, depth=1):\n    from .late import value\n    return value\n"
    first = digest(encoder=late, late="value = 1\n")
    assert digest(encoder=late, late="value = 2\n") != first
    assert "made_one.late" not in sys.modules, "a digest imports nothing"


def test_another_distribution_does_not_count(digest: Digest, tmp_path: Path) -> None:
    other = tmp_path / "made_other.py"
    code = "import made_other\n\n\ndef build(*, depth=1):\n    return made_other.value\n"
    other.write_text("value = 1\n", encoding="utf-8")
    first = digest(encoder=code)
    other.write_text("value = 2\n", encoding="utf-8")
    assert digest(encoder=code) == first


def test_a_data_file_beside_it_counts_where_the_source_names_it(digest: Digest, tmp_path: Path) -> None:
    code = "TABLE = {}\n\n\ndef build():\n    return TABLE\n"
    named, silent = code.replace("{}", '"table.toml"'), code
    (tmp_path / "made_one").mkdir()
    (tmp_path / "made_one" / "table.toml").write_text("a = 1\n", encoding="utf-8")
    before = digest(encoder=named), digest(encoder=silent)
    (tmp_path / "made_one" / "table.toml").write_text("a = 22\n", encoding="utf-8")
    assert digest(encoder=named) != before[0]
    assert digest(encoder=silent) == before[1]


def test_a_process_goes_on_with_the_digest_of_the_code_that_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "made_alone.py"
    file.write_text("def build():\n    return 1\n", encoding="utf-8")
    module = importlib.import_module("made_alone")
    first = code_digest(Entry("alone", module.build, ""))
    file.write_text("def build():\n    return 1 + 1\n", encoding="utf-8")
    assert code_digest(Entry("alone", module.build, "")) == first
    importlib.invalidate_caches()
    importlib.reload(module)
    assert code_digest(Entry("alone", module.build, "")) != first


# ------------------------------------------------------------------------------------------------ ways to be installed


def install(folder: Path, name: str, files: dict[str, str], *, version: str = "1", editable: Path | None = None) -> None:
    """Lay out a distribution as pip does; an editable one's files lie elsewhere."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files if editable is None), encoding="utf-8")
    if editable is not None:
        told = {"url": editable.as_uri(), "dir_info": {"editable": True}}
        (info / "direct_url.json").write_text(json.dumps(told), encoding="utf-8")
    for file, text in files.items():
        path = (editable or folder) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def installed(module: str, distribution: str) -> str:
    return code_digest(Entry("mine", fresh(module).build, "", plugin=f"{distribution}:mine"))


BUILD = "from made_space.{0} import value\n\n\ndef build():\n    return value\n"


def test_distributions_that_share_a_namespace_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "made-a", {"made_space/a.py": BUILD.format("a2"), "made_space/a2.py": "value = 1\n"})
    install(tmp_path, "made-b", {"made_space/b.py": BUILD.format("a2")})
    first = installed("made_space.a", "made-a"), installed("made_space.b", "made-b")
    (tmp_path / "made_space" / "a2.py").write_text("value = 22\n", encoding="utf-8")
    assert installed("made_space.a", "made-a") != first[0]
    assert installed("made_space.b", "made-b") == first[1]


def test_an_editable_distribution_counts_with_all_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    files = {
        "made_top.py": "import made_beside\n\n\ndef build():\n    return made_beside.value\n",
        "made_beside.py": "value = 1\n",
    }
    install(tmp_path / "site", "made-top", files, editable=source)
    for folder in (source, tmp_path / "site"):
        monkeypatch.syspath_prepend(str(folder))
    first = installed("made_top", "made-top")
    (source / "made_beside.py").write_text("value = 22\n", encoding="utf-8")
    assert installed("made_top", "made-top") != first


def test_a_new_version_of_a_strangers_distribution_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for version in ("1", "2"):
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(tmp_path / version))
            install(tmp_path / version, "made-v", {"made_v.py": "def build():\n    return 1\n"}, version=version)
            under_test._version.cache_clear()
            found.append(installed("made_v", "made-v"))
    assert found[0] != found[1]


def test_a_package_in_a_zip_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for number in (1, 2):
        archive = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("made_zip/__init__.py", "from made_zip.inner import value\n\n\ndef build():\n    return value\n")
            file.writestr("made_zip/inner.py", f"value = {number}\n")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(archive))
            found.append(code_digest(Entry("mine", fresh("made_zip").build, "")))
    assert found[0] != found[1]


# ------------------------------------------------------------------------------------------ what is bound to a callable


def make(depth: int, scale: Callable[[int], int] = abs) -> Callable[[], int]:
    def build() -> int:
        return scale(depth)

    return build


def plain(*, depth: int = 1) -> int:
    return depth


def of(build: Callable[..., Any]) -> str:
    return code_digest(Entry("one", build, ""))


def test_bound_arguments_and_closures_count() -> None:
    assert of(functools.partial(plain, depth=1)) == of(functools.partial(plain, depth=1))
    assert of(functools.partial(plain, depth=1)) != of(functools.partial(plain, depth=2))
    assert of(functools.partial(plain, depth=1)) != of(plain)
    assert of(make(1)) == of(make(1))
    assert of(make(1)) != of(make(2))
    assert of(lambda depth=1: depth) != of(plain)


def test_a_callable_that_holds_itself_ends() -> None:
    def build() -> object:
        return (build, other)

    def other() -> object:
        return build

    assert of(build) == of(build)


def typed_in(code: str) -> Any:
    """Return `build` of code without a file, as in a notebook."""
    space: dict[str, Any] = {"__name__": "made_notebook"}
    exec(code, space)
    return space["build"]


def test_code_without_a_file_is_known_by_itself_and_by_what_it_uses() -> None:
    code = 'K = 3\n\nclass Block:\n    """B."""\n    def go(self, x):\n        return x + K\n'
    code += "\n\ndef build():\n    return Block().go(1)\n"
    first = of(typed_in(code))
    assert of(typed_in(code)) == first
    assert of(typed_in(code.replace("x + K", "x - K"))) != first
    assert of(typed_in(code.replace("K = 3", "K = 4"))) != first
    assert of(typed_in(code.replace("B.", "A block.").replace("return x", "# add\n        return x"))) == first


# --------------------------------------------------------------------------------------------------------- the catalogue


def test_every_component_that_is_installed_has_its_digest_and_none_needs_a_new_import(caplog: pytest.LogCaptureFixture) -> None:
    entries = [entry for registry in discover().registries() for entry in registry]
    loaded = set(sys.modules)
    modules = {code_digest(entry): {under_test._module_of(p) for p in under_test.defined(entry.build)} for entry in entries}
    for entry in entries:
        assert modules[code_digest(entry)] == {under_test._module_of(part) for part in under_test.defined(entry.build)}
    assert set(sys.modules) == loaded
    assert not caplog.records


def test_a_component_of_the_package_follows_its_family_and_the_shared_arithmetic() -> None:
    entry = discover().objectives["token"]
    roots = {under_test._module_of(part) for part in under_test.defined(entry.build)}
    followed = dict(under_test._followed(roots, under_test._own_modules("melp-bench", tuple(sorted(roots)))))
    assert "melp_plugins.objectives.token" in followed
    assert not [name for name in followed if name.startswith("melp_bench.") and name not in SHARED]


CONTRACT = {
    "registry", "components", "records", "errors", "features", "signal", "hookspecs", "published", "ecg_plot", "store",
    "evaluations", "metrics", "predictions",
}  # fmt: skip
"""What plugins may import of the host and what is versioned there, or moves no number."""


def test_a_function_that_a_package_of_the_host_passes_on_counts_where_it_is_written() -> None:
    followed = dict(under_test._followed(["melp_plugins.metrics.ranking"], under_test.OwnModules(frozenset())))
    assert "melp_bench.metrics.ranking" in followed
    assert "melp_bench.metrics" not in followed


def test_what_plugins_take_from_the_host_is_either_its_contract_or_counts_as_their_code() -> None:
    taken = set()
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("melp_bench."):
                taken.add(str(node.module))
    uncounted = {name for name in taken if name not in SHARED and name.split(".")[1] not in CONTRACT}
    assert not uncounted, "let it count, in SHARED, or move it to the plugins"


ELSEWHERE = {
    "melp_bench.leakage.duplicates": "names kept searches, which hold no number of a row",
    "melp_bench.leakage.table": "names kept tables of fingerprints",
}


def test_every_version_of_the_host_is_gathered() -> None:
    stated = set()
    for path in sorted((ROOT / "melp_bench").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["VERSION"]:
                stated.add(".".join(path.relative_to(ROOT).with_suffix("").parts))
    left = {name for name in stated if not any(name == other or name.startswith(f"{other}.") for other in ELSEWHERE)}
    assert {name.rpartition(".")[2] for name in left} == set(versions())
