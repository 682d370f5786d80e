"""What is installed is all there is: a wheel must hold every folder that an editable installation finds by itself."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
FOLDERS = {"melp_bench": "melp_bench", "plugins": "melp_plugins"}


def test_every_folder_of_modules_or_data_is_in_the_list_of_packages() -> None:
    found = set()
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(".".join((package, *path.parent.relative_to(ROOT / folder).parts)))
    assert found == set(SETUPTOOLS["packages"])


def test_every_kind_of_data_file_is_taken_along() -> None:
    taken = set(SETUPTOOLS["package-data"]["*"])
    found = {
        path.name if path.name == "py.typed" else f"*{path.suffix}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".py", ".pyc")
    }
    assert found <= taken
