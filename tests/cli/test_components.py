"""`list`, `show` and `check` say what is installed, and fit 80 columns."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import melp_bench as mb
from melp_bench import cli
from melp_bench.cli import components
from melp_bench.cli.census import stores_table
from melp_bench.cli.tables import kind_table
from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import BrokenPlugin, Catalogue
from melp_bench.registry import Entry
from melp_bench.store.layout import StoreManifest
from melp_bench.testing.small import SmallEncoder

app = typer.Typer()
app.command("list")(components.list_components)
app.command("show")(components.show)
app.command("check")(components.check)


class Noisy(SmallEncoder):
    """Its features are never the same twice."""

    def forward(self, signal):  # type: ignore[no-untyped-def]
        return super().forward(signal + signal.new_empty(signal.shape).normal_())


def sized(*, width: int = 20, unused: str = "x") -> SmallEncoder:
    return SmallEncoder()


class Small(mb.Objective):
    scale = "rhythm"

    def __init__(self, sizes: mb.Sizes) -> None:
        super().__init__()

    def forward(self, ecg: mb.Features, text: mb.Features):  # type: ignore[no-untyped-def]
        return (ecg.record - text.record).square().mean()


@pytest.fixture(autouse=True)
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    made = Catalogue()
    long = "a summary that is much too long for one line of a terminal and has to be folded " * 2
    made.ecg_encoders.add(Entry("small", sized, long, "https://example.org", "MIT", plugin="dist:small"))
    made.ecg_encoders.add(Entry("noisy", Noisy, "[red]not markup[/red]", plugin="dist:noisy"))
    made.objectives.add(Entry("small", Small, "a distance", plugin="dist:small"))
    made.broken.append(BrokenPlugin("torn", "elsewhere", "ImportError: no module named 'gone'"))
    monkeypatch.setattr("melp_bench.plugins.discover", lambda: made)
    return made


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert max(len(line) for line in result.output.splitlines()) <= 80
    return f"{result.exit_code}\n{result.output}"


def test_list_shows_every_kind_and_broken_plugins_last_with_their_reason() -> None:
    said = run("list")
    titles = ["ECG encoders (2)", "text encoders (0)", "objectives (1)", "datasets (0)", "broken plugins (1)"]
    places = [said.index(title) for title in titles]
    assert places == sorted(places)
    assert "no module named 'gone'" in said[places[-1] :]
    assert "[red]not markup" in said


def test_names_that_are_copied_are_never_broken_over_lines() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(kind_table("ECG encoders", [("an-encoder-of-26-letters-x", "summary " * 9, "some-distribution", "MIT")]))
    options = {"num_records": 6000, "rate_hz": 500.0, "seconds": 10.0}
    manifest = StoreManifest(
        format=1,
        name="a-dataset",
        version="1.0.3 of another collection",
        options=options,
        licence="MIT",
        citation="",
        generated=False,
        has_official_folds=False,
        num_records=800_035,
        num_patients=161_352,
        quarantined={"nan": 12},
        plan="",
        index="",
        data="",
        shards=[],
        tasks=[],
        fingerprint="f" * 64,
    )
    console.print(stores_table([(Path("a-dataset-12345678"), manifest)]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    words = [word for line in lines for word in line.split()]
    assert {"an-encoder-of-26-letters-x", "a-dataset-12345678", "num_records=6000", "800,035", "rate_hz=500.0"} <= set(words)


def test_show_tells_what_every_component_of_that_name_wants() -> None:
    said = run("show", "small")
    counted = f"{sum(parameter.numel() for parameter in SmallEncoder().parameters()):,}"
    for fact in ("ECG encoder small", "100 Hz, 2 s, 12 leads", counted, "objective small", "ecg, text", "width = 20", "MIT"):
        assert fact in said


def test_check_of_a_faulty_component_ends_with_1_and_the_numbers() -> None:
    said = run("check", "noisy")
    assert said.startswith("1\n")
    assert "✗ eval() is deterministic" in " ".join(said.split())
    assert "promises are broken" in said


def test_check_of_a_sound_component_ends_with_0(catalogue: Catalogue) -> None:
    catalogue.objectives.remove("small")
    said = run("check", "small")
    assert said.startswith("0\n")
    assert "✗" not in said


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["show", "smal"], UnknownName, "did you mean 'small'"),
        (["check", "zzz"], UnknownName, "nothing is named 'zzz'"),
        (["check", "torn"], UnknownName, "could not be loaded: ImportError"),
        (["check", "noisy", "-o", "depth"], UserError, "'depth' is not KEY=VALUE"),
        (["check", "noisy", "-o", "depth=3"], UserError, "no option 'depth'"),
        (["check", "noisy", "-o", "a=1", "-o", "a=2"], UserError, "given twice"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)


def test_the_commands_are_imported_without_torch() -> None:
    code = (
        "import sys; import melp_bench.cli.components, melp_bench.cli.throughput, melp_bench.cli.plugin, melp_bench.scaffold;"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_kept_help_is_what_the_command_parser_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Renew it by COLUMNS=80 python -m melp_bench --help > melp_bench/cli/help.txt."""
    said = []
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)  # then the parser itself is asked
        with pytest.raises(SystemExit) as end:
            cli.main(["--help"])
        assert end.value.code == 0
        said.append(capsys.readouterr().out)
    assert said == [cli._help()] * 2
    monkeypatch.delenv("COLUMNS")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert capsys.readouterr().out == said[0]


def test_help_is_there_before_the_command_parser_is() -> None:
    code = (
        "import sys\nfrom melp_bench.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    sys.exit('typer' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: melp-bench")
