"""LUDB's marks, read as waves of a record, kept by a store and handed to evaluations."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import wfdb

import melp_bench as mb
from melp_bench.plugins import discover
from melp_bench.records import waves_of
from melp_bench.store import prepare
from melp_bench.testing import check_component
from melp_plugins.datasets.annotated_segments import Annotation
from melp_plugins.datasets.ludb_waves import marked_waves

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
needs_records = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ludb/")


def test_a_mark_has_the_ends_beside_it_or_its_peak_for_them() -> None:
    marks = [(10, "("), (20, "N"), (30, ")"), (50, "t"), (60, ")"), (90, "p")]
    found = marked_waves([Annotation(sample, symbol, "") for sample, symbol in marks])
    assert found == [mb.Wave("QRS", 0.02, 0.04, 0.06), mb.Wave("T", 0.1, 0.1, 0.12), mb.Wave("P", 0.18, 0.18, 0.18)]


def test_only_the_twelve_leads_have_marks() -> None:
    with pytest.raises(mb.UserError, match="lead = 'X'"):
        discover().datasets["ludb-waves"].build(lead="X")


@needs_records
def test_every_mark_of_the_files_is_in_the_store(tmp_path: Path) -> None:
    dataset, source = discover().datasets["ludb-waves"].build(), Path(str(REAL)) / "ludb"
    infos = {info.record_id: info for info in dataset.infos(source)}
    kinds = [wave.kind for info in infos.values() for wave in waves_of(info.measurements)]
    assert [kinds.count(kind) for kind in ("P", "QRS", "T")] == [1401, 1831, 1642]
    read = wfdb.rdann(str(source / "data" / "1"), "ii")
    peaks = [sample / 500 for sample, symbol in zip(read.sample, read.symbol, strict=True) if symbol in "pNt"]
    np.testing.assert_allclose(sorted(wave.peak_s for wave in waves_of(infos["1"].measurements)), peaks)
    assert "data/1.ii" in set(dataset.files(source, infos["1"]))
    dataset.infos = lambda _: [infos[name] for name in ("3", "1", "2")]
    store = prepare(dataset, name="waves", source=source, root=tmp_path)
    last = store.record_ids[[2, 0]].tolist()
    assert store.measurements(np.array([2, 0])) == [infos[name].measurements for name in last]


@needs_records
def test_it_keeps_the_promises_of_a_dataset() -> None:
    verdicts = check_component("dataset", discover().datasets["ludb-waves"], source=Path(str(REAL)) / "ludb")
    assert [verdict for verdict in verdicts if verdict.ok is False] == []
