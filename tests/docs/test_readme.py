"""What the README promises is true: its commands exist, its encoder passes the checks, its files are there."""

from __future__ import annotations

import re
import shlex
import types
from configparser import ConfigParser
from pathlib import Path

import pytest
import typer

from melp_bench.cli.app import app
from melp_bench.plugins import Catalogue, register
from melp_bench.protocol import protocol_names
from melp_bench.testing import check_component

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOUNDATION_MODELS = (ROOT / "docs" / "foundation-models.md").read_text(encoding="utf-8")


def commands_of(page: str) -> list[str]:
    """Return the commands of a page's consoles."""
    return [
        part.strip()
        for block in re.findall(r"```console\n(.*?)```", page, re.S)
        for line in block.splitlines()
        if line.startswith("$ ")
        for part in line[2:].split("&&")
    ]


COMMANDS = commands_of(README)


@pytest.mark.parametrize("command", [c for c in (*COMMANDS, *commands_of(FOUNDATION_MODELS)) if c.startswith("melp-bench ")])
def test_every_command_of_the_readme_and_of_the_models_page_is_understood(command: str) -> None:
    words = shlex.split(command)[1:]
    node = typer.main.get_command(app)
    while hasattr(node, "commands"):
        assert words[0] in node.commands, f"{command}: no command {words[0]!r}"
        node, words = node.commands[words[0]], words[1:]
    node.make_context("melp-bench", list(words), resilient_parsing=False)


def test_the_two_commands_are_what_the_project_has() -> None:
    assert "pip install -e ." in COMMANDS
    assert "melp-bench run demo" in COMMANDS
    assert "tox" in COMMANDS
    assert "demo" in protocol_names()
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini")
    assert "pytest" in tox["testenv"]["commands"]
    assert "pip install -q tox && tox" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_readmes_encoder_passes_every_check_and_is_thirty_lines_long() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    module = types.ModuleType("readme_encoder")
    exec(compile(code, "README.md", "exec"), module.__dict__)
    catalogue = Catalogue()
    register(catalogue, module, "readme")
    (entry,) = catalogue.ecg_encoders
    verdicts = list(check_component("ECG encoder", entry))
    assert verdicts
    assert [v for v in verdicts if v.ok is False] == []


def test_the_python_lines_of_the_models_page_run_and_are_ten() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", FOUNDATION_MODELS, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    module = types.ModuleType("models_page")
    exec(compile(code, "foundation-models.md", "exec"), module.__dict__)
    assert module.__dict__["embedding"].ndim == 1
    assert module.__dict__["tokens"].ndim == 2


@pytest.mark.parametrize("link", [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link])
def test_every_file_the_readme_points_to_is_there(link: str) -> None:
    assert (ROOT / link).is_file(), link
