"""`melp-bench diff` fits 80 columns, takes what `run` takes, and says what both share once."""

from __future__ import annotations

from pathlib import Path

import pytest

from melp_bench.cli import _run


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what `diff` prints, its lines at most 80 columns wide."""
    assert _run(["diff", *arguments], verbose=False) == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines())
    return text


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_both_sides_stand_under_their_names_and_the_budget_above(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'name = "mine"\nsummary = "s"\nbase = "simclr"\nencoder = { name = "resnet1d-18", options = { width = 8 } }\n'
    )
    text = said(capsys, "simclr+resnet1d-18", str(mine))
    first, second, *rest = text.splitlines()
    assert first.startswith("under protocol demo (rev ")
    assert "from synthetic" in " ".join((first, second))
    assert "seed 0" in " ".join((first, second))
    assert "the same: 2 other options of encoder resnet1d-18; stage pretrain" in rest
    head, row = (line.split() for line in rest if "mine" in line or "encoder.width" in line)
    assert head == ["simclr+resnet1d-18", "mine"]
    assert row == ["encoder.width", "16", "8"]


def test_equal_recipes_differ_in_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "byol", "byol").splitlines()[-1] == "nothing differs"


@pytest.mark.parametrize("pair", [("melp", "merl"), ("melp-2025", "melp-2025-maintainers"), ("random-init", "d-beta")])
def test_wide_recipes_are_folded(capsys: pytest.CaptureFixture[str], pair: tuple[str, str]) -> None:
    text = said(capsys, *pair)
    assert pair[0] in text
    assert pair[1] in text


def test_another_protocol_is_another_budget(capsys: pytest.CaptureFixture[str]) -> None:
    told = " ".join(said(capsys, "simclr", "byol", "--protocol", "untrained").split())
    assert told.startswith("under protocol untrained (rev 1): 1 step of 64 from synthetic")
    assert _run(["diff", "simclr", "conv-transformer", "--protocol", "melp-2025-published"], verbose=False) == 2
    assert "names no recipe to pretrain it by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["simclr", "simcrl"], "did you mean 'simclr'"), (["melp", "st-mem-base@w.pth"], "says nothing of how it was trained")],
)
def test_what_is_no_recipe_is_told_in_a_line(capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    assert _run(["diff", *arguments], verbose=False) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
