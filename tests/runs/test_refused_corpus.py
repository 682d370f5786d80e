"""A run refuses to score what it is about to pretrain on, before it pretrains."""

from __future__ import annotations

from pathlib import Path

import pytest

from melp_bench.cli import _run

PROTOCOL = """
name = "same"
revision = 1
summary = "pretrains on what it cross-validates"
models = ["simclr"]

[datasets.synthetic]
dataset = "synthetic"
options = { num_records = 60, seed = 0, rate_hz = 100.0 }
split = "cross-validate"

[pretrain]
dataset = "synthetic"
steps = 2

[[evaluations]]
name = "linear_probe"
tasks = ["synthetic/super"]
"""


def test_a_cross_validated_dataset_cannot_be_the_pretraining_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    path = tmp_path / "same.toml"
    path.write_text(PROTOCOL, encoding="utf-8")
    assert _run(["run", str(path), "--device", "cpu", "--workers", "1"], verbose=False) == 2
    told = capsys.readouterr().err
    assert "patients of 'synthetic'" in told
    assert told.count("\n") == 1
    assert not list((tmp_path / "home").glob("checkpoints/*/*"))
