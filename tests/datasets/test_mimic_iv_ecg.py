"""MIMIC-IV-ECG from a folder made in its form."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import wfdb

from melp_bench.errors import UserError
from melp_bench.signal import LEADS, SignalSpec
from melp_bench.store import prepare
from melp_bench.testing import check_component
from melp_plugins.datasets.mimic_iv_ecg import MIMICIVECG, machine_task, melp_datasets, report
from melp_plugins.datasets.synthetic import Synthetic

ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
REPORTS = [
    ["Sinus rhythm", "Left axis deviation", "Abnormal EKG"],
    ["Atrial fibrillation with rapid ventricular response", "*** Poor data quality ***"],
    ["Normal ECG"],
]


def folder(root: Path) -> Path:
    """Return a folder in the form of MIMIC-IV-ECG 1.0 with three records of two patients."""
    made = Synthetic(num_records=3)
    lines, machine = [], []
    for number, info in enumerate(made.infos(root)):
        study, patient = 40000000 + number, 10000000 + number // 2
        path = f"files/p1000/p{patient}/s{study}/{study}"
        (root / path).parent.mkdir(parents=True)
        signal = made.signal(root, info)
        rows = [LEADS.index(lead) for lead in ORDER]
        wfdb.wrsamp(str(study), 500, ["mV"] * 12, list(ORDER), signal.millivolts[rows].T.astype(float), fmt=["16"] * 12,
                    adc_gain=[200.0] * 12, baseline=[0] * 12, write_dir=str((root / path).parent))  # fmt: skip
        lines.append({"subject_id": patient, "study_id": study, "file_name": study, "ecg_time": "2180-07-23", "path": path})
        said = {f"report_{n}": line for n, line in enumerate(REPORTS[number])}
        said |= {f"report_{n}": "" for n in range(len(said), 18)}
        machine.append({"subject_id": patient, "study_id": study, **said, "rr_interval": 800 + number, "p_onset": 29999})
    for name, rows_ in (("record_list.csv", lines), ("machine_measurements.csv", machine)):
        with (root / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows_[0]))
            writer.writeheader()
            writer.writerows(rows_)
    return root


def test_reports_follow_the_published_rules() -> None:
    assert report(REPORTS[0]) == "sinus rhythm. left axis deviation. abnormal ecg."
    assert report(["*** Sinus rhythm", "Normal ECG ***"]) == "sinus rhythm. normal ecg."
    assert report(["==Sinus\trhythm\n of  note=="]) == "sinus rhythm of note."
    assert report([]) == ""


def test_records_have_patients_reports_measurements_and_leads_by_name(tmp_path: Path) -> None:
    source = folder(tmp_path)
    store = prepare(MIMICIVECG(min_words=0), name="mimic-iv-ecg", source=source, root=tmp_path / "store")
    assert store.patient_ids.tolist() == ["10000000", "10000000", "10000001"]
    assert store.folds[0] == store.folds[1]
    assert store.leads[0] == ORDER
    assert store.measurement("rr_interval").tolist() == [800, 801, 802]
    assert np.isnan(store.measurement("p_onset")).all()
    classes = store.task("machine").classes
    had = [{c for c, yes in zip(classes, row, strict=True) if yes} for row in store.labels("machine").tolist()]
    assert had == [{"SR", "LAD"}, {"AFIB"}, {"NORM"}]
    signal = Synthetic(num_records=3).signal(source, next(iter(Synthetic(num_records=3).infos(source))))
    assert np.abs(store.batch([0], SignalSpec())[0].numpy() - signal.millivolts[:, :5000]).max() < 0.0051


def test_a_short_report_is_quarantined_as_published(tmp_path: Path) -> None:
    store = prepare(MIMICIVECG(), name="mimic-iv-ecg", source=folder(tmp_path), root=tmp_path / "store")
    assert store.manifest.quarantined == {"short-report": 1}


def test_leads_under_each_others_names_are_flagged(tmp_path: Path) -> None:
    source = folder(tmp_path)
    for header in source.rglob("*.hea"):
        text = header.read_text()
        header.write_text(text.replace(" aVF", " aVx").replace(" aVL", " aVF").replace(" aVx", " aVL"))
    store = prepare(MIMICIVECG(min_words=0), name="mimic-iv-ecg", source=source, root=tmp_path / "store")
    assert set(store.quality_flags) == {("wrong-leads: aVL is aVF, aVF is aVL",)}


def test_it_conforms(tmp_path: Path) -> None:
    verdicts = check_component("dataset", melp_datasets()[0], source=folder(tmp_path))
    assert [v for v in verdicts if v.ok is False] == []


def test_no_line_of_the_task_doubts_and_each_is_lower_case() -> None:
    for lines in machine_task().members.values():
        assert all(line == line.casefold().strip() and "possible" not in line and "consider" not in line for line in lines)


def test_a_table_without_its_columns_is_the_users_to_mend(tmp_path: Path) -> None:
    source = folder(tmp_path)
    table = source / "machine_measurements.csv"
    table.write_text(table.read_text().replace("report_17", "report_x"))
    with pytest.raises(UserError, match=r"lacks the columns \['report_17'\]"):
        prepare(MIMICIVECG(), name="mimic-iv-ecg", source=source, root=tmp_path / "store")
    with pytest.raises(UserError, match="min_words is -1"):
        MIMICIVECG(min_words=-1)
