"""A plugin that fails is reported with its reason and hides nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import melp_bench as mb
from melp_bench import hookspecs
from melp_bench.errors import UserError
from melp_bench.plugins import GROUP, HOOKS, Catalogue, discover, register


def build(*, depth: int = 1) -> None:
    """Build nothing: discovery only looks."""


def offering(hook: str, returned: object) -> SimpleNamespace:
    """Return a plugin whose one hook returns `returned`."""

    def implementation() -> object:
        return returned

    implementation.__name__ = hook
    return SimpleNamespace(**{hook: mb.hookimpl(implementation)})


def entry(name: str, make: Callable[..., Any] = build) -> mb.Entry[Any]:
    return mb.Entry(name, make, "for this test")


GOOD = """
import melp_bench as mb

def build(*, depth: int = 1):
    return depth

@mb.hookimpl
def melp_objectives():
    return [mb.Entry({name!r}, build, "for this test")]
"""


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], EntryPoint]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, code: str) -> EntryPoint:
        module = f"plugin_under_test_{name.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
        sys.modules.pop(module, None)
        return EntryPoint(name, module, GROUP)

    return make


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_module_that_nobody_has", "a_module_that_nobody_has"),
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "implements no hook"),
        (GOOD.format(name="taken"), "offered by plugin 'a-good'"),
        (GOOD.format(name="fine").replace("melp_objectives", "melp_objektives"), "did you mean 'melp_objectives'"),
        (GOOD.format(name="fine").replace("melp_objectives", "objectives"), "hook 'objectives' that does not exist"),
        (GOOD.format(name="fine").replace("@mb.hookimpl\n", ""), "melp_objectives is not marked"),
        (GOOD.format(name="../up"), "'../up'"),
        (GOOD.format(name="fine").replace("return [", "return None, ["), "returned 'NoneType'"),
        (GOOD.format(name="fine").replace("return [mb.Entry", "return mb.Entry").replace('test")]', 'test")'), "wanted a list"),
    ],
)
def test_a_broken_plugin_is_reported_with_its_reason_and_hides_nobody(
    point: Callable[[str, str], EntryPoint], code: str, reason: str
) -> None:
    points = [point("a-good", GOOD.format(name="taken")), point("broken", code), point("good", GOOD.format(name="other"))]
    catalogue = discover(points)
    assert [e.name for e in catalogue.objectives] == ["other", "taken"]
    (broken,) = catalogue.broken
    assert broken.name == "broken"
    assert reason in broken.reason
    assert "\n" not in broken.reason


def test_a_name_clash_names_both_sides() -> None:
    catalogue = Catalogue()
    register(catalogue, offering("melp_datasets", [entry("same")]), "one", "dist-a")
    with pytest.raises(UserError, match="'same' is offered by plugin 'dist-a:one' and by plugin 'dist-b:two'"):
        register(catalogue, offering("melp_datasets", [entry("same")]), "two", "dist-b")


def test_a_name_may_be_used_once_per_kind() -> None:
    catalogue = Catalogue()
    register(catalogue, offering("melp_datasets", [entry("same")]), "one")
    register(catalogue, offering("melp_objectives", [entry("same")]), "two")
    assert "same" in catalogue.datasets
    assert "same" in catalogue.objectives


def test_of_a_plugin_that_fails_half_way_nothing_stays() -> None:
    catalogue = Catalogue()
    register(catalogue, offering("melp_datasets", [entry("old")]), "one", "dist")
    half = offering("melp_ecg_encoders", [entry("new")])
    half.melp_datasets = offering("melp_datasets", [entry("fresh"), entry("old")]).melp_datasets
    with pytest.raises(UserError, match="'old'"):
        register(catalogue, half, "two", "dist")
    assert len(catalogue.ecg_encoders) == 0
    assert [e.name for e in catalogue.datasets] == ["old"]


def test_the_same_plugin_twice_is_an_error_that_keeps_the_first() -> None:
    catalogue, plugin = Catalogue(), offering("melp_datasets", [entry("only")])
    register(catalogue, plugin, "one", "dist")
    with pytest.raises(UserError, match="rename one"):
        register(catalogue, plugin, "one", "dist")
    assert [e.plugin for e in catalogue.datasets] == ["dist:one"]


@pytest.mark.parametrize(
    ("returned", "reason"),
    [(None, "NoneType"), (["x"], "wanted melp_bench.Entry"), ([mb.Entry("a", None, "")], "callable")],  # type: ignore[arg-type]
)
def test_what_a_hook_returns_must_be_entries(returned: object, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        register(Catalogue(), offering("melp_datasets", returned), "odd")


def test_options_must_be_named_one_by_one() -> None:
    def anything(**options: int) -> None:
        """Take whatever comes."""

    with pytest.raises(UserError, match=r"takes \*\*options"):
        register(Catalogue(), offering("melp_datasets", [entry("loose", anything)]), "odd")


def test_every_hook_is_documented_and_feeds_a_registry() -> None:
    specified = {n: v for n, v in vars(hookspecs).items() if hasattr(v, f"{hookspecs.PROJECT}_spec")}
    assert set(specified) == set(HOOKS)
    for name, hook in specified.items():
        assert (hook.__doc__ or "").strip(), f"{name} has no docstring"
        assert len(getattr(Catalogue(), HOOKS[name])) == 0


def test_each_module_of_a_package_is_a_plugin_and_a_broken_one_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "package_of_plugins"
    (package / "deeper").mkdir(parents=True)
    for path, code in {
        "__init__.py": "",
        "one.py": GOOD.format(name="one"),
        "shared.py": "WIDTH = 3",
        "broken.py": "import package_of_plugins.nowhere",
        "deeper/__init__.py": "",
        "deeper/two.py": GOOD.format(name="two"),
        "misspelt.py": "def melp_objective():\n    return []",
    }.items():
        (package / path).write_text(code, encoding="utf-8")
    catalogue = discover([EntryPoint("mine", "package_of_plugins", GROUP)])
    assert [(entry.name, entry.plugin) for entry in catalogue.objectives] == [
        ("one", "package_of_plugins.one"),
        ("two", "package_of_plugins.deeper.two"),
    ]
    assert [plugin.name for plugin in catalogue.broken] == ["package_of_plugins.broken", "package_of_plugins.misspelt"]
    assert "nowhere" in catalogue.broken[0].reason
    assert "did you mean 'melp_objectives'" in catalogue.broken[1].reason
