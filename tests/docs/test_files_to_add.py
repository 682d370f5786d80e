"""What `docs/design.md` promises of adding things: each is one or two files, and then it runs and stands on the board."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from melp_bench.cli.run_output import quiet_console, show_end
from melp_bench.plugins import GROUP, Catalogue, discover
from melp_bench.runs.run import RunResult, carry_out
from melp_bench.runs.run_spec import make_spec
from melp_bench.testing import KINDS, check_component

ROOT = Path(__file__).parents[2]
ADDED = Path(__file__).parent / "added"
EXAMPLES = {
    "an encoder": ["encoder.py"],
    "an objective, with views of its own": ["views_objective.py", "views_recipe.toml"],
    "a momentum objective (target, predictor, schedule)": ["momentum_objective.py", "momentum_recipe.toml"],
    "an evaluation": ["evaluation.py"],
    "a metric, which is a column of every board": ["metric.py"],
    "a dataset": ["dataset.py"],
    "a foundation model with its filter, leads and crops": ["foundation_model.py"],
}
"""What is added -> its files. A protocol that uses them is one more, for all."""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """Return what is installed, and the package of examples by its one entry point."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ADDED.parent))
        found = discover([*entry_points(group=GROUP), EntryPoint("added", "added", GROUP)])
    assert not found.broken
    return found


@pytest.fixture(scope="module")
def result(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Return a run of the protocol of the examples."""
    folder = tmp_path_factory.mktemp("added")
    recipes = {tomllib.loads(path.read_text())["name"]: str(path) for path in ADDED.glob("*_recipe.toml")}
    models = [recipes.get(name, name) for name in tomllib.loads((ADDED / "protocol.toml").read_text())["models"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELP_BENCH_HOME", str(folder / "home"))
        return carry_out(make_spec(ADDED / "protocol.toml", models, out=folder / "board"), catalogue)


def test_the_examples_are_all_files_there_are_and_none_takes_more_than_two() -> None:
    counted = [name for files in EXAMPLES.values() for name in files]
    assert sorted([*counted, "__init__.py", "protocol.toml"]) == sorted(p.name for p in ADDED.iterdir() if p.is_file())
    assert all(len(files) <= 2 for files in EXAMPLES.values())


def test_no_file_of_the_package_knows_of_them() -> None:
    names = re.compile(r"added-[a-z]|\bStrides\b|\bMeanTeacher\b|log loss|nearest centroid")
    files = [path for folder in ("melp_bench", "plugins") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert [str(p) for p in files if names.search(p.read_text(encoding="utf-8", errors="ignore"))] == []


def test_the_table_of_the_design_names_every_example_and_files_that_are_there() -> None:
    table = re.findall(r"^\| (an? [^|]+?|heads) \| ([^|]+) \|", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"), re.M)
    assert set(EXAMPLES) <= {what for what, _ in table}
    for what, touched in table:
        assert 1 <= len(re.findall(r"`[^`]+`", touched)) <= 2, what


def test_each_keeps_the_promises_of_its_kind(catalogue: Catalogue) -> None:
    checked = 0
    for registry in catalogue.registries():
        for entry in registry:
            if entry.name.startswith("added-") and registry.kind in KINDS:
                broken = [v for v in check_component(registry.kind, entry) if v.ok is False]
                assert broken == [], f"{registry.kind} {entry.name}"
                checked += 1
    assert checked == 8


def test_all_of_them_run_together_and_stand_on_every_board(result: RunResult) -> None:
    assert [(row.model, row.status) for row in result.rows] == [
        ("added-limbs", "scored"),
        ("added-teacher", "scored"),
        ("random-init+added-encoder", "scored"),
        ("random-init+added-foundation", "scored"),
    ]
    for row in result.rows:
        assert row.outcome is not None
        assert set(row.outcome.scores) == {"auroc", "added-log-loss"}
    shown, names = ("log loss", "nearest centroid"), ("added-log-loss", "added-centroids")
    for file, words in (("README.md", shown), ("index.html", shown), ("board.csv", names)):
        board = (result.board / file).read_text(encoding="utf-8")
        assert [word for word in words if word not in board] == [], file


def test_the_terminal_shows_them(result: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    show_end(quiet_console(), result)
    told = capsys.readouterr().out
    assert "nearest centroid" in told
    assert "added-teacher" in told
