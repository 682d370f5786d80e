"""Options that are lists, typed and pasted; records listed with their reasons: a hospital's folder, from the command line."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import numpy as np
import pytest
import wfdb
from tiny_run import call, one_line

from melp_bench.protocol import DatasetUse
from melp_bench.runs.stores import _command

CLASSES = ("long QT, corrected", "AF")
COMMAS = 'classes=["long QT, corrected", "AF"]'


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of two records and the name of one that is not there; the second is clipped."""
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "records"
    folder.mkdir()
    for name, highest in (("1", 9.0), ("2", 0.6)):
        x = np.sin(np.arange(2000)[:, None] / 500 * 2 * np.pi).clip(-9, highest)
        wfdb.wrsamp(name, 500, ["mV"], ["II"], x, fmt=["16"], write_dir=str(folder))
    (folder / "labels.csv").write_text('record,subject_id,AF,"long QT, corrected",ward\n1,7,1,0,3\n2,7,0,1,4\nlost,8,0,0,4\n')
    return folder


def prepare(source: Path, *more: str) -> int:
    return call("data", "prepare", "wfdb-folder", "--from", source, "--column", "patient=subject_id", *more)


def test_the_command_that_is_printed_can_be_pasted(source: Path) -> None:
    """A class with a blank was parted by the shell, one with a comma by the command line."""
    use = DatasetUse(dataset="wfdb-folder", options={"classes": list(CLASSES), "columns": ["patient=subject_id"]})
    words = shlex.split(_command("wfdb-folder", use).replace("DIR", shlex.quote(str(source))))
    assert call(*words[1:]) == 0
    assert call("data", "show", "wfdb-folder", "-o", COMMAS) == 0


def test_show_and_verify_find_the_store_by_the_options_it_was_made_with(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that is a list was compared as it was typed, and fitted no store."""
    assert prepare(source, "-o", COMMAS) == 0
    assert prepare(source, "-o", "classes=AF") == 0
    for classes in (COMMAS, "classes=AF"):
        for command in (["show"], ["verify", "--from", str(source)]):
            assert call("data", *command, "wfdb-folder", "-o", classes) == 0
    capsys.readouterr()
    assert call("data", "show", "wfdb-folder", "-o", "classes=ward") == 2
    assert "no prepared store of 'wfdb-folder' with these options" in one_line(capsys)


def test_records_are_listed_with_their_reasons_and_as_csv(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store told how many records were quarantined or flagged, and not which."""
    assert prepare(source, "-o", "classes=AF") == 0
    capsys.readouterr()
    for flag, expected in (("--quarantine", "lost missing-file lost.hea"), ("--flags", "2 saturated-leads II")):
        assert call("data", "show", "wfdb-folder", flag) == 0
        assert expected in " ".join(capsys.readouterr().out.split())
        out = tmp_path / f"{flag}.csv"
        assert call("data", "show", "wfdb-folder", flag, "--out", out) == 0
        with out.open(newline="") as file:
            assert expected in [" ".join(row) for row in csv.reader(file)]
    assert call("data", "show", "wfdb-folder", "--flags", "--quarantine") == 2


def test_a_dataset_without_the_option_says_so(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call("data", "prepare", "ludb", "--from", source, "--lead", "X=V1") == 2
    assert "dataset 'ludb' takes no --lead" in one_line(capsys)
