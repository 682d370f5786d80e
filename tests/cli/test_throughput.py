"""`melp-bench throughput` measures in a fresh process, writes rows and prints ratios against the first encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import typer
from rich.console import Console
from typer.testing import CliRunner

from melp_bench.cli import throughput_details
from melp_bench.cli.throughput import speed_table, throughput
from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import discover
from melp_bench.throughput.details import place, versions
from melp_bench.throughput.machine import environment
from melp_bench.throughput.measurements import MeasuredFigure, read_measurements
from melp_bench.throughput.rows import SpeedRow, SubjectName, Work

app = typer.Typer()
app.command()(throughput)
NAME = "resnet1d-18"
CPU = torch.device("cpu")


def row(name: str, rate: float) -> SpeedRow:
    return SpeedRow(
        name=name, options={}, work=Work(), environment={}, records_per_second=rate, records_per_second_low=0.9 * rate,
        records_per_second_high=1.1 * rate, seconds=[16 / rate], peak_bytes=123_000_000, peak_method="x", parameters=90_883_072,
        gflops_per_record=123.456, created="",
    )  # fmt: skip


def test_ratios_are_against_the_first_and_the_table_fits_80_columns() -> None:
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(speed_table([row("the-slow-one", 100.0), row("an-encoder-with-a-very-long-name", 25_000.0)]))
    said = captured.get()
    assert max(len(line) for line in said.splitlines()) <= 80
    assert "1.00" in said
    assert "250.00" in said
    assert "22,500-27,500" in said


def test_a_row_is_measured_and_written(tmp_path: Path) -> None:
    assert NAME in discover().ecg_encoders
    arguments = [NAME, "--batch", "2", "--repeats", "2", "--threads", "1", "--device", "cpu", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    (path,) = tmp_path.glob("*.json")
    measured = SpeedRow.model_validate_json(path.read_bytes())
    assert measured.key == path.stem
    assert measured.environment["threads"] == "1"
    assert measured.peak_bytes >= 4 * measured.parameters
    assert NAME in result.output


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["resnet1d-1"], UnknownName, "did you mean"),
        ([NAME, "-o", "depthh=3"], UserError, "no option 'depthh'"),
        ([NAME, "--device", "abacus"], UserError, "could not be measured.*abacus"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path, arguments: list[str], error: type[Exception], said: str
) -> None:
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
    assert isinstance(result.exception, error)
    with pytest.raises(error, match=said):
        raise result.exception
    assert list(tmp_path.iterdir()) == []


def test_all_measures_every_kind_once_and_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [
        SubjectName(name=NAME), SubjectName(kind="objective", name="rhythm", recipe="clip"),
        SubjectName(kind="data path", name="store"),
    ]  # fmt: skip
    asked: list[tuple[str, str]] = []

    def measured(name: SubjectName, work: Work) -> SpeedRow:
        asked.append((name.name, work.mode))
        if len(asked) == 3:
            raise UserError("'store' could not be measured: no room")
        change = {"kind": name.kind, "recipe": name.recipe, "work": work, "environment": environment(CPU, work.dtype)}
        return row(name.name, 100.0).model_copy(update=change)

    left_out = {"ECG encoder hf": "'hf' needs the option 'model'"}
    monkeypatch.setattr("melp_bench.runs.speeds.all_names", lambda *_: (chosen, left_out))
    monkeypatch.setattr("melp_bench.cli.throughput.in_fresh_process", measured)
    arguments = ["--all", "--device", "cpu", "--out", str(tmp_path)]
    first = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert str(first.exception) == "'store' could not be measured: no room"
    assert asked == [(NAME, "forward"), ("rhythm", "forward"), ("store", "forward"), (NAME, "train"), ("rhythm", "train")]
    again = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert again.exit_code == 0, again.output
    assert asked[5:] == [("store", "forward")]
    assert "left out  ECG encoder hf: 'hf' needs the option 'model'" in again.output
    heads = [line.split("  ")[0].strip() for line in again.output.splitlines() if "records/s" in line and "quartiles" in line]
    assert heads == ["ECG encoder", "objective", "data path", "ECG encoder", "objective"]
    assert "rhythm in clip" in again.output
    assert len(list(tmp_path.glob("*.json"))) == 5
    refused = CliRunner().invoke(app, [NAME, *arguments])
    assert "--all measures everything" in str(refused.exception)


def figures(name: str, work: Work, provider: str, *, compiled: bool) -> list[MeasuredFigure]:
    if name == "ked":
        raise UserError("'ked' could not be measured: it is too slow")
    metrics = {"forward": ("records_per_second", "best_batch", "flops", "bytes"), "train": ("forward_ms",)}
    found = [("matmul", "forward", "flops_per_second"), ("copy", "forward", "bytes_per_second")]
    found += [(name, mode, metric) for mode, several in metrics.items() for metric in several]
    return [MeasuredFigure(k, provider, mode, metric, 4, 4, 4, 4, place(CPU), versions()) for k, mode, metric in found]


def test_details_are_kept_one_by_one_and_only_what_is_missing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noted(name: str, work: Work, provider: str, *, compiled: bool) -> list[MeasuredFigure]:
        asked.append(name)
        return figures(name, work, provider, compiled=compiled)

    monkeypatch.setattr(throughput_details, "_details", noted)
    options = ["--details", "--device", "cpu", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [NAME, "ked", "merl-resnet18", *options], env={"COLUMNS": "80"})
    assert str(result.exception) == "'ked' could not be measured: it is too slow"
    assert {row.kernel for row in read_measurements(tmp_path)} == {"matmul", "copy", NAME, "merl-resnet18"}
    assert (tmp_path / "roofline.png").is_file()
    assert NAME in result.output
    CliRunner().invoke(app, [NAME, "ked", *options, "--missing"])
    assert asked == [NAME, "ked", "merl-resnet18", "ked"]
    CliRunner().invoke(app, [NAME, *options, "--missing", "--compiled"])  # another provider has not been measured
    assert asked[-1] == NAME


def test_what_belongs_to_details_is_refused_without_it(tmp_path: Path) -> None:
    for arguments, said in ((["--compiled"], "belong to --details"), (["--details", "--train"], "measures both modes")):
        result = CliRunner().invoke(app, [NAME, *arguments, "--out", str(tmp_path)])
        assert isinstance(result.exception, UserError)
        assert said in str(result.exception)
