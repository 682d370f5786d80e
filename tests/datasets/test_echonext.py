"""EchoNext from a folder made in its form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from source_folders import hearts, write_table

from melp_bench.errors import UserError
from melp_bench.signal import LEADS
from melp_bench.store import prepare
from melp_bench.testing import check_component
from melp_plugins.datasets.echonext import EchoNext, melp_datasets

FLAGS = [next(iter(members)) for members in EchoNext().tasks["findings"].members.values()]
SHD = "shd_moderate_or_greater_flag"
ROWS = [
    ("train", "p1"),
    ("test", "p3"),
    ("train", "p1"),
    ("no_split", "p3"),
    ("val", "p2"),
    ("train", "p4"),
    ("no_split", "p2"),
]
UNIT = 0.2


def folder(root: Path) -> Path:
    """Return a folder in the form of EchoNext 1.1: rows of a split in the table's order are the rows of its array."""
    root.mkdir(parents=True)
    made = hearts(len(ROWS), 250.0)
    rows, arrays = [], {"train": [], "val": [], "test": [], "no_split": []}  # type: ignore[var-annotated]
    for number, (split, patient) in enumerate(ROWS):
        flags = {flag: int(place == number) for place, flag in enumerate(FLAGS)} | {SHD: int(number < 2)}
        rows.append({"": number, "ecg_key": f"e{number}", "patient_key": patient, "split": split, "age_at_ecg": 40 + number,
                     "sex": ("male", "female")[number % 2], "ventricular_rate": 60.0, "pr_interval": "", **flags})  # fmt: skip
        arrays[split].append(made[number].T[None, :2500] / UNIT)  # (1, 2500, 12)
    write_table(root / "echonext_metadata_100k.csv", rows)
    for split, parts in arrays.items():
        np.save(root / f"EchoNext_{split}_waveforms.npy", np.stack(parts).astype(np.float64))
    return root


def test_rows_are_told_apart_by_split_and_the_publishers_split_is_kept(tmp_path: Path) -> None:
    store = prepare(EchoNext(), name="echonext", source=folder(tmp_path / "in"), root=tmp_path / "store")
    assert store.record_ids.tolist() == ["e0", "e1", "e2", "e4", "e5"]
    assert store.folds.tolist()[1] == 10
    assert store.folds.tolist()[3] == 9
    assert set(store.folds[[0, 2, 4]].tolist()) <= set(range(1, 9))
    assert store.folds[0] == store.folds[2]
    infos = {info.record_id: info for info in EchoNext().infos(tmp_path / "in")}
    for number, info in ((0, infos["e0"]), (1, infos["e1"]), (2, infos["e2"]), (5, infos["e5"])):
        signal = EchoNext().signal(tmp_path / "in", info)
        assert np.abs(signal.millivolts - hearts(len(ROWS), 250.0)[number][:, :2500]).max() < 1e-6
        assert (signal.rate_hz, signal.leads) == (250.0, LEADS)


def test_earlier_ecgs_of_the_tested_are_left_out_and_said(tmp_path: Path) -> None:
    told: list[str] = []
    prepare(EchoNext(), name="echonext", source=folder(tmp_path / "in"), root=tmp_path / "store", tell=told.append)
    assert "2 ECGs of the part no_split are left out: their patients validate or are tested" in told


def test_labels_are_the_flags_and_amplitudes_are_said_to_be_estimated(tmp_path: Path) -> None:
    store = prepare(EchoNext(), name="echonext", source=folder(tmp_path / "in"), root=tmp_path / "store")
    assert store.labels("shd").tolist() == [[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]]
    wanted = np.zeros((5, 11), int)
    for row, number in enumerate((0, 1, 2, 4, 5)):
        wanted[row, number] = 1
    assert store.labels("findings").tolist() == wanted.tolist()
    assert all("unit-estimated" in flags for flags in store.quality_flags)
    assert store.measurement("ventricular_rate").tolist() == [60.0] * 5
    halved = EchoNext(unit_millivolts=0.1).signal(tmp_path / "in", next(iter(EchoNext().infos(tmp_path / "in"))))
    assert np.abs(2 * halved.millivolts - hearts(len(ROWS), 250.0)[0][:, :2500]).max() < 1e-6


def test_it_conforms(tmp_path: Path) -> None:
    verdicts = check_component("dataset", melp_datasets()[0], source=folder(tmp_path / "in"))
    assert [v for v in verdicts if v.ok is False] == []


def test_what_is_wrong_is_one_line_or_a_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no echonext_metadata_100k\.csv in "):
        list(EchoNext().infos(tmp_path))
    with pytest.raises(UserError, match="unit_millivolts is 0"):
        EchoNext(unit_millivolts=0)
    source = folder(tmp_path / "in")
    np.save(source / "EchoNext_val_waveforms.npy", np.zeros((1, 12, 2500)))
    np.save(source / "EchoNext_test_waveforms.npy", np.array([{"a": 1}]), allow_pickle=True)
    (source / "EchoNext_train_waveforms.npy").write_bytes((source / "EchoNext_train_waveforms.npy").read_bytes()[:-8])
    with pytest.raises(UserError, match=r"no record of 'echonext' can be used: unreadable-samples 4, wrong-shape 1"):
        prepare(EchoNext(), name="echonext", source=source, root=tmp_path / "store")
    table = source / "echonext_metadata_100k.csv"
    table.write_text(table.read_text().replace(",val,", ",fold9,"))
    with pytest.raises(
        UserError, match=r"line 6: split is 'fold9'; wanted a whole row, with one of train, val, test, no_split"
    ):
        list(EchoNext().infos(source))
