"""Samples of CPSC2018 and Chapman-Shaoxing-Ningbo whose codes stand in a table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import melp_bench as mb
from melp_bench.plugins import discover
from melp_plugins.datasets.snomed import CPSC_CLASSES

REAL = os.environ.get("MELP_BENCH_MORE_ECG")
needs_records = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_MORE_ECG to the folder with cpsc2018/ and chapman-ningbo/")
INDEX = 'record,age,sex,dx,signal\nA1,71,Male,59118001,records/A1\nA2,,Female,"426783006, 164889003",records/A2\n'


def test_an_index_tells_ages_sexes_codes_and_paths(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text(INDEX)
    one, two = discover().datasets["cpsc2018-sample"].build().infos(tmp_path)
    assert (one.record_id, one.age, one.sex, one.path) == ("A1", 71.0, "M", "records/A1")
    assert (two.age, two.sex) == (None, "F")
    assert two.statements == {"426783006", "164889003"}


def test_names_of_classes_are_read_as_their_codes_and_others_refused(tmp_path: Path) -> None:
    """Two thirds of the sample's cells hold names: taken for codes, those records had no class at all."""
    sample = discover().datasets["cpsc2018-sample"].build()
    (tmp_path / "index.csv").write_text('record,age,sex,dx,signal\nA1,71,Male,"AF,RBBB",records/A1\n')
    assert next(iter(sample.infos(tmp_path))).statements == {CPSC_CLASSES["AFIB"], CPSC_CLASSES["CRBBB"]}
    (tmp_path / "index.csv").write_text("record,age,sex,dx,signal\nA1,71,Male,atrial flutter,records/A1\n")
    with pytest.raises(mb.UserError, match="line 2: dx has 'atrial flutter'"):
        list(sample.infos(tmp_path))


def test_an_index_without_codes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("record,age\nA1,71\n")
    with pytest.raises(mb.UserError, match="lacks the columns"):
        list(discover().datasets["csn-sample"].build().infos(tmp_path))


@needs_records
def test_the_sample_of_cpsc2018_has_the_classes_that_its_source_counts() -> None:
    sample, source = discover().datasets["cpsc2018-sample"].build(), Path(str(REAL)) / "cpsc2018"
    infos = list(sample.infos(source))
    assert len(infos) == 191
    assert sum(CPSC_CLASSES["AFIB"] in info.statements for info in infos) == 63
    signal = sample.signal(source, infos[0])
    assert (signal.rate_hz, len(signal.leads)) == (100.0, 12)


@needs_records
def test_the_sample_of_csn_is_read() -> None:
    infos = list(discover().datasets["csn-sample"].build().infos(Path(str(REAL)) / "chapman-ningbo"))
    assert len(infos) == 110
    assert all(info.statements for info in infos)
