"""A recipe that cannot be trained is refused in one line before any work: not even its corpus is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import call, one_line, write_protocol

ENCODER = '[encoder]\nname = "{encoder}"\n'
TEXT = '[text]\nname = "bert"\noptions = { layers = 1 }\n[heads]\nname = "melp"\n'
SIMCLR = '[[objectives]]\nname = "simclr"\n'
WRONG = {
    "unknown field": ("conv-transformer", SIMCLR + "wieght = 2\n", "wieght'; did you mean 'weight'?"),
    "unknown table": ("conv-transformer", "[optimizer]\nlearning_rate = 1\n", "'optimizer'; did you mean 'optimiser'?"),
    "unknown option": (
        "conv-transformer",
        SIMCLR + "options = { temprature = 1.0 }\n",
        "'simclr' has no option 'temprature'; did you mean 'temperature'?",
    ),
    "negative weight": ("conv-transformer", SIMCLR + "weight = -1.0\n", "greater than or equal to 0, given -1.0"),
    "unknown objective": (
        "conv-transformer",
        '[[objectives]]\nname = "simcrl"\n',
        "no objective named 'simcrl'; did you mean 'simclr'?",
    ),
    "reports without a text encoder": (
        "conv-transformer",
        '[[objectives]]\nname = "rhythm"\n',
        "objectives ['rhythm'] read reports, but the recipe has no [text] encoder",
    ),
    "masks on an encoder without masking": (
        "resnet1d-18",
        '[[objectives]]\nname = "mae"\n',
        "objective 'mae' of stage 'pretrain' cannot train this encoder: needs an encoder with masked encoding",
    ),
    "latents of an encoder without masking": (
        "resnet1d-18",
        '[[objectives]]\nname = "jepa"\n',
        "cannot train this encoder: needs an encoder with masked encoding",
    ),
    "heartbeats of another encoder": (
        "conv-transformer",
        '[[objectives]]\nname = "heartlang-sentences"\n',
        "cannot train this encoder: needs HeartLang's encoder with its vocabulary",
    ),
    "a view that is not there": (
        "conv-transformer",
        SIMCLR + 'views.view1 = [{ name = "crop-resise" }]\n',
        "no view named 'crop-resise'; did you mean 'crop-resize'?",
    ),
    "a view that the objective has not": (
        "conv-transformer",
        SIMCLR + 'views.view3 = [{ name = "noise" }]\n',
        "views ['view3'] of 'simclr': it has no such view; it has view1, view2",
    ),
    "a view out of its range": (
        "conv-transformer",
        SIMCLR + 'views.view1 = [{ name = "noise", options = { most = 3.0 } }]\n',
        "option 'most' of 'noise' is 3.0",
    ),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home in which nothing is yet."""
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def made(home: Path) -> list[str]:
    return [path.name for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("command", ["run --dry-run", "run", "pretrain"])
@pytest.mark.parametrize("wrong", list(WRONG))
def test_a_wrong_recipe_is_refused_in_a_line_and_nothing_is_made(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, wrong: str
) -> None:
    encoder, objective, told = WRONG[wrong]
    recipe, protocol = tmp_path / "wrong.toml", write_protocol(tmp_path)
    recipe.write_text(f'name = "wrong"\nsummary = "for tests"\n{ENCODER.format(encoder=encoder)}{objective}', encoding="utf-8")
    word, *flags = command.split()
    arguments = ["pretrain", recipe, "-p", protocol] if word == "pretrain" else [word, protocol, "-m", recipe, *flags]
    assert call(*arguments) == 2
    assert told in one_line(capsys)
    assert made(home) == []


def test_captioning_words_that_see_what_follows_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ENCODER.format(encoder="conv-transformer") + TEXT.replace("layers = 1", "layers = 1, causal = false")
    (tmp_path / "wrong.toml").write_text(
        f'name = "wrong"\nsummary = "for tests"\n{parts}[[objectives]]\nname = "token"\n', encoding="utf-8"
    )
    assert call("run", write_protocol(tmp_path), "-m", tmp_path / "wrong.toml", "--dry-run") == 2
    assert "causal" in one_line(capsys)
    assert made(home) == []
