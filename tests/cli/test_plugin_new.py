"""A new plugin is four files that install, are found, and keep every promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from melp_bench.errors import UserError
from melp_bench.scaffold import new_plugin

SEE = """
import sys
from melp_bench.plugins import discover
from melp_bench.testing import check_component
catalogue = discover()
entry = catalogue.ecg_encoders[sys.argv[1]]
assert entry.plugin == f"{sys.argv[1]}:{sys.argv[1]}", entry.plugin
bad = [v for v in check_component("ECG encoder", entry) if v.ok is False]
sys.exit("; ".join(f"{v.property}: {v.detail}" for v in bad) or 0)
"""


def test_it_writes_four_files_whose_module_is_short(tmp_path: Path) -> None:
    written = new_plugin("my-encoder", tmp_path)
    names = {"pyproject.toml", "README.md", "src/my_encoder.py", "tests/test_my_encoder.py"}
    assert {str(p.relative_to(tmp_path / "my-encoder")) for p in written} == names
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == set(written)
    assert all("$" not in p.read_text() for p in written)
    assert len((tmp_path / "my-encoder/src/my_encoder.py").read_text().splitlines()) < 60


def test_it_installs_is_found_and_keeps_every_promise(tmp_path: Path) -> None:
    new_plugin("tensor", tmp_path)  # a name that could shadow what the module imports
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--target", str(target), str(tmp_path / "tensor")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    path = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    seen = subprocess.run(
        [sys.executable, "-c", SEE, "tensor"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert seen.returncode == 0, seen.stderr


@pytest.mark.parametrize(
    "name", ["My-Encoder", "1st", "a_b", "a--b", "-a", "a-", "", "../up", "a/b", "a b", "class", "json", "torch", "x" * 41, "é"]
)
def test_a_name_that_cannot_be_a_package_and_a_module_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        new_plugin(name, tmp_path)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine-own").mkdir()
    (tmp_path / "mine-own" / "work.txt").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        new_plugin("mine-own", tmp_path)
    assert [p.name for p in (tmp_path / "mine-own").iterdir()] == ["work.txt"]


def test_a_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        new_plugin("mine-own", tmp_path / "file")
