"""A stranger's package, installed beside this one: its encoder is listed, checked, and comes to a row on the board."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_run import PROTOCOL, call, write_protocol

from melp_bench.results import read_results

pytestmark = pytest.mark.skipif(
    find_spec("melp_bench_external") is None, reason="tests/external is not installed (pip install --no-deps tests/external)"
)
NAME = "external-convnet"
METRIC = "external-log-score"
EVALUATION = "external-sex"
MOMENTUM, VIEW, LOGGER = "external-moco-v3", "external-time-shift", "external-totals"


def test_it_is_listed_with_the_package_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list") == 0
    told = capsys.readouterr().out
    assert NAME in told
    assert METRIC in told
    assert EVALUATION in told
    assert MOMENTUM in told
    assert VIEW in told
    assert LOGGER in told


@pytest.mark.parametrize("name", [NAME, METRIC, EVALUATION, MOMENTUM, VIEW, LOGGER])
def test_it_passes_every_check(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", name) == 0
    assert "✗" not in capsys.readouterr().out


def test_it_is_pretrained_evaluated_and_put_on_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    protocol = write_protocol(tmp_path)
    assert call("run", protocol, "-m", NAME, "--set", "text.layers=1", "--out", tmp_path / "board", "--log", LOGGER) == 0
    (totals,) = (tmp_path / "home" / "checkpoints").glob("*/external/totals.txt")
    assert totals.read_text(encoding="utf-8").startswith("records 0 ")
    rows = list(read_results(tmp_path / "board" / "results"))
    assert {row.status for row in rows} == {"scored"}
    assert {row.evaluation for row in rows} == {"zero_shot", "linear_probe"}
    assert NAME in (tmp_path / "board" / "README.md").read_text(encoding="utf-8")


def test_its_evaluation_makes_rows_of_every_model_and_its_metric_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    use = f'[[evaluations]]\nname = "{EVALUATION}"\ntasks = ["synthetic/super"]\nmetrics = ["auroc", "auprc"]\n'
    text = PROTOCOL[: PROTOCOL.index("[[evaluations]]")] + use
    assert call("run", write_protocol(tmp_path, text), "-m", "random-init", "--out", tmp_path / "board") == 0
    (row,) = read_results(tmp_path / "board" / "results")
    assert (row.evaluation, row.evaluation_label, row.status) == (EVALUATION, "sex (external)", "scored")
    assert row.outcome is not None
    assert list(row.outcome.scores) == ["auroc", "auprc"]
    assert [one.name for one in row.outcome.classes] == ["female"]
    assert f"evaluation {EVALUATION}" in row.inputs.code
