"""`melp-bench protocol` fits 80 columns, and tells what a protocol measures, what it reproduces and what differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import call, one_line, write_protocol

from melp_bench.defects import defects
from melp_bench.protocol import load_protocol, protocol_names


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert call("protocol", *arguments) == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines())
    return " ".join(text.split())


def test_every_protocol_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "list")
    assert all(name in text for name in protocol_names())
    assert "(8 defects)" in text


@pytest.mark.parametrize("name", ["melp-2025-published", "merl-2024-published"])
def test_every_defect_of_a_publication_is_told_with_its_source(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "show", name)
    assert load_protocol(name).defects
    for one in load_protocol(name).defects:
        assert defects()[one].summary in text
        assert f"found in {defects()[one].source}" in text
    assert "first-5-seconds (in cpsc2018)" in text
    assert "is in the label files themselves" in text
    assert "cpsc2018: cpsc2018, published, seconds = 5.0, padding = before-scaling" in text


def test_what_is_recommended_has_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    assert "found in" not in said(capsys, "show", "corrected-v1")
    assert not load_protocol("corrected-v1").defects


def test_two_protocols_are_told_apart_and_a_file_is_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = said(capsys, "diff", "corrected-v1", "melp-2025-published")
    assert "the same: dataset synthetic; pretrain; interval" in text
    assert "linear_probe: scoring logits softmax" in text
    mine = write_protocol(tmp_path)
    assert said(capsys, "diff", mine, mine).endswith("nothing differs")
    assert said(capsys, "show", mine).startswith("protocol tiny")


def test_a_protocol_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("protocol", "diff", "demo", "dmeo") == 2
    assert "no protocol named 'dmeo'; did you mean 'demo'" in one_line(capsys)
