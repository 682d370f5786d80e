"""Signals as CSV: Chapman-Shaoxing's first release and MedalCare-XL, from folders made in their form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from source_folders import hearts, write_table

from melp_bench.cli import _run
from melp_bench.errors import UserError
from melp_bench.records import BadRecord
from melp_bench.signal import LEADS
from melp_bench.store import prepare
from melp_bench.testing import check_component
from melp_plugins.datasets import chapman_original, medalcare_xl
from melp_plugins.datasets.lead_tables import read_columns, read_rows

ROWS = [("SB", "NONE"), ("AFIB", "RBBB TWC"), ("SAAWR", "XYZ"), ("SR", "LVHV")]
RUNS = [
    "sinus/train/run_S65",
    "mi/LAD_0.3/test/run_S64",
    "fam/train/run_S64",
    "lbbb/validation/run_S63",
    "mi/LCX_1.0_ant/train/run_S66",
]


def chapman_folder(root: Path, *, workbook: bool = False) -> Path:
    """Return a folder in the form of Chapman-Shaoxing on figshare: microvolts, under a header and, denoised, without."""
    rows = []
    for number, (rhythm, beat) in enumerate(ROWS):
        name = f"MUSE_20180113_{number:06d}_27000"
        microvolts = np.round(hearts(len(ROWS))[number][:, :5000].T * 1000).astype(int)
        for folder, header in (("ECGData", ",".join(LEADS)), ("ECGDataDenoised", "")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            np.savetxt(
                root / folder / f"{name}.csv",
                microvolts - 1000 * (not header),
                fmt="%d",
                delimiter=",",
                header=header,
                comments="",
            )
        rows.append({"FileName": name, "Rhythm": rhythm, "Beat": beat, "PatientAge": 59 + number,
                     "Gender": ("MALE", "FEMALE")[number % 2],
                     "VentricularRate": 60 + number, "QTCorrected": 430, "RAxis": -12})  # fmt: skip
    if workbook:
        openpyxl = pytest.importorskip("openpyxl", reason="the extra xlsx is not installed")
        book = openpyxl.Workbook()
        for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
            book.active.append(row)
        book.save(root / "Diagnostics.xlsx")
    else:
        write_table(root / "Diagnostics.csv", rows)
    return root


def medalcare_folder(root: Path) -> Path:
    """Return a folder in the form of MedalCare-XL: each record three times, a lead per row."""
    for number, run in enumerate(RUNS):
        folder = root / "MedalCare-XL" / "WP2_largeDataset_Noise" / run
        folder.mkdir(parents=True)
        for shift, kind in enumerate(("filtered", "noise", "raw")):
            np.savetxt(folder / f"{14 + number:06d}_{kind}.csv", hearts(5)[number][:, :5000] + shift, fmt="%.5f", delimiter=",")
        (folder / "siginfo.csv").write_text("info1,info2\n")
    figures = root / "MedalCare-XL" / "WP2_largeDataset_Noise" / "mi" / "examples"
    figures.mkdir()
    np.savetxt(figures / "000001_filtered.csv", hearts(5)[0], delimiter=",")
    mac = root / "__MACOSX" / "sinus" / "train" / "run_S65"
    mac.mkdir(parents=True)
    (mac / "._000014_filtered.csv").write_bytes(b"junk")
    return root


@pytest.mark.parametrize("workbook", [False, True])
def test_chapman_is_read_in_microvolts_with_the_codes_of_csn(workbook: bool, tmp_path: Path) -> None:
    source = chapman_folder(tmp_path / "in", workbook=workbook)
    told: list[str] = []
    dataset = chapman_original.ChapmanOriginal()
    store = prepare(dataset, name="chapman-original", source=source, root=tmp_path / "store", tell=told.append)
    assert [sorted(had) for had in store.statements] == [
        ["426177001"], ["164889003", "164934002", "59118001"], ["195101003", "condition: XYZ"],
        ["426783006", "condition: LVHV"],
    ]  # fmt: skip
    assert any("Rhythm or Beat: 2 cells" in line and "'XYZ' 1" in line for line in told)
    assert store.labels("rhythm").tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert {"published", "all"} <= set(store.tasks)
    infos = list(dataset.infos(source))
    assert [(info.age, info.sex) for info in infos] == [(59, "M"), (60, "F"), (61, "M"), (62, "F")]
    assert infos[1].measurements == {"ventricular_rate": 61.0, "qt_corrected": 430.0, "r_axis": -12.0}
    for number, info in enumerate(infos):
        signal = dataset.signal(source, info)
        assert np.abs(signal.millivolts - hearts(len(ROWS))[number][:, :5000]).max() < 0.00051
        assert signal.leads == LEADS
    denoised = chapman_original.ChapmanOriginal(denoised=True)
    other = denoised.signal(source, next(iter(denoised.infos(source))))
    assert np.abs(other.millivolts + 1.0 - dataset.signal(source, infos[0]).millivolts).max() < 1e-5


def test_a_workbook_that_is_none_and_a_missing_package_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openpyxl", reason="the extra xlsx is not installed")
    (tmp_path / "Diagnostics.xlsx").write_bytes(b"no workbook")
    with pytest.raises(UserError, match=r"cannot read .*Diagnostics\.xlsx"):
        list(chapman_original.ChapmanOriginal().infos(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"pip install 'melp-bench\[xlsx\]', or save it as 'Diagnostics\.csv'"):
        list(chapman_original.ChapmanOriginal().infos(tmp_path))
    with pytest.raises(UserError, match=r"no Diagnostics\.xlsx or Diagnostics\.csv in"):
        list(chapman_original.ChapmanOriginal().infos(tmp_path / "x"))


def test_medalcare_is_generated_and_keeps_the_authors_split(tmp_path: Path) -> None:
    source = medalcare_folder(tmp_path / "in")
    store = prepare(medalcare_xl.MedalCareXL(), name="medalcare-xl", source=source, root=tmp_path / "store")
    assert store.generated
    found = dict(
        zip(store.record_ids.tolist(), zip(store.patient_ids.tolist(), store.folds.tolist(), strict=True), strict=True)
    )
    assert set(found) == {
        "sinus-train-S65-000014", "mi-LAD_0.3-test-S64-000015", "fam-train-S64-000016", "lbbb-validation-S63-000017",
        "mi-LCX_1.0_ant-train-S66-000018",
    }  # fmt: skip
    assert found["mi-LAD_0.3-test-S64-000015"] == ("S64-ventricular", 10)
    assert found["lbbb-validation-S63-000017"] == ("S63-ventricular", 9)
    assert found["fam-train-S64-000016"][0] == "S64-atrial"
    assert found["fam-train-S64-000016"][1] < 9
    where = store.record_ids.tolist()
    labels, arteries = store.labels("condition"), store.labels("artery")
    classes = store.task("condition").classes
    assert classes[int(np.argmax(labels[where.index("fam-train-S64-000016")]))] == "FAM"
    assert arteries[where.index("mi-LCX_1.0_ant-train-S66-000018")].tolist() == [0, 1, 0]
    raw = medalcare_xl.MedalCareXL(kind="raw")
    signal = raw.signal(source, next(info for info in raw.infos(source) if info.record_id.startswith("sinus")))
    assert np.abs(signal.millivolts - hearts(5)[0][:, :5000] - 2).max() < 1e-5


def test_simulated_files_are_asked_for_and_known_by_name_size_and_time(tmp_path: Path) -> None:
    """A dataset that makes its records reads no folder; one whose simulated records are served as files does."""
    with pytest.raises(UserError, match="is read from files; say where they are with --from DIR"):
        prepare(medalcare_xl.MedalCareXL(), name="medalcare-xl", source=None, root=tmp_path / "store")
    source = medalcare_folder(tmp_path / "in")
    made = prepare(medalcare_xl.MedalCareXL(), name="medalcare-xl", source=source, root=tmp_path / "store")
    file = next(source.rglob("000014_filtered.csv"))
    np.savetxt(file, hearts(5)[1][:, :5000], fmt="%.5f", delimiter=",")
    told: list[str] = []
    again = prepare(medalcare_xl.MedalCareXL(), name="medalcare-xl", source=source, root=tmp_path / "store", tell=told.append)
    assert any("were changed or added since" in line for line in told)
    assert again.fingerprint != made.fingerprint


def test_a_store_of_simulated_files_is_verified_without_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    source = medalcare_folder(tmp_path / "in")
    for arguments in (["prepare", "--from", str(source), "--workers", "1"], ["verify"], ["verify", "--from", str(source)]):
        assert _run(["data", arguments[0], "medalcare-xl", *arguments[1:]], verbose=False) == 0


@pytest.mark.parametrize(("module", "make"), [(chapman_original, chapman_folder), (medalcare_xl, medalcare_folder)])
def test_both_sets_conform(module: object, make: object, tmp_path: Path) -> None:
    verdicts = check_component("dataset", module.melp_datasets()[0], source=make(tmp_path / "x"))  # type: ignore[attr-defined, operator]
    assert [v for v in verdicts if v.ok is False] == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "missing-file"),
        ("", "zero-byte-file"),
        (" \n\n", "unreadable-samples"),
        (",".join(LEADS) + "\n", "missing-samples"),
        (",".join(LEADS) + "\n1,2,3\n", "wrong-shape"),
        ("1,2,3\n4,5,6\n", "wrong-shape"),
        (",".join(LEADS) + "\n" + "1," * 11 + "x\n", "unreadable-samples"),
        (",".join(["1"] * 12) + "\n" + ",".join(["1"] * 11) + "\n", "unreadable-samples"),
    ],
)
def test_a_text_that_is_no_table_of_leads_has_a_reason(text: str | None, code: str, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadRecord) as caught:
        read_columns(path)
    assert caught.value.code == code
    if text is not None and code == "wrong-shape":
        with pytest.raises(BadRecord):
            read_rows(path)


def test_columns_go_by_the_header_where_there_is_one(tmp_path: Path) -> None:
    order = ("V1", "I", *(lead for lead in LEADS if lead not in ("V1", "I")))
    (tmp_path / "r.csv").write_text(
        '"' + '","'.join(order) + '"\n' + "\n".join(",".join(map(str, range(12))) for _ in range(3))
    )
    samples, leads = read_columns(tmp_path / "r.csv")
    assert leads == order
    assert samples.shape == (12, 3)
    assert samples[1].tolist() == [1, 1, 1]
