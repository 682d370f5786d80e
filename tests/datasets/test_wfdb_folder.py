"""A folder of one's own: the table decides the classes, and every mistake in it is told in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb

from melp_bench.cli import main
from melp_bench.errors import UserError
from melp_bench.records import BadRecord
from melp_bench.registry import Entry
from melp_bench.signal import LEADS
from melp_bench.store import prepare
from melp_bench.testing import check_component
from melp_plugins.datasets.synthetic import Synthetic
from melp_plugins.datasets.wfdb_files import read_wfdb
from melp_plugins.datasets.wfdb_folder import WFDBFolder, melp_datasets

ENTRY: Entry = melp_datasets()[0]
TABLE = "record,patient,age,sex,report,AF,long_QT\na/1,p1,61,F,Atrial fibrillation.,1,0\n2,p1,,m,,0,1\n3,p2,40,,,,1\n"


def folder(root: Path, table: str = TABLE) -> Path:
    """Return a folder with three records of made hearts and `table`."""
    made = Synthetic(num_records=3)
    (root / "a").mkdir(parents=True)
    for info, name in zip(made.infos(root), ("a/1", "2", "3"), strict=True):
        signal = made.signal(root, info)
        wfdb.wrsamp(Path(name).name, int(signal.rate_hz), ["mV"] * 12, list(signal.leads), signal.millivolts.T.astype(float),
                    fmt=["16"] * 12, write_dir=str((root / name).parent))  # fmt: skip
    (root / "labels.csv").write_text(table)
    return root


def test_a_row_becomes_a_record_and_a_column_a_class(tmp_path: Path) -> None:
    store = prepare(WFDBFolder(), name="wfdb-folder", source=folder(tmp_path / "s"), root=tmp_path / "store")
    assert store.task("all").classes == ("AF", "long_QT")
    assert store.task("all").prompts["long_QT"] == ("long QT",)
    assert store.labels("all").tolist() == [[True, False], [False, True], [False, True]]
    assert store.patient_ids.tolist() == ["p1", "p1", "p2"]
    assert store.folds[0] == store.folds[1]
    assert store.sexes.tolist() == ["F", "M", ""]
    assert np.array_equal(store.ages, [61, np.nan, 40], equal_nan=True)
    assert store.reports[0] == "Atrial fibrillation."
    assert store.leads[0] == LEADS


def test_chosen_classes_leave_the_other_columns_alone(tmp_path: Path) -> None:
    table = TABLE.replace("long_QT", "ward").replace("0\n2", "A7\n2").replace("0,1\n3", "0,B\n3")
    dataset = WFDBFolder(classes=("AF",))
    store = prepare(dataset, name="wfdb-folder", source=folder(tmp_path / "s", table), root=tmp_path / "store")
    assert store.task("all").classes == ("AF",)


def test_it_conforms_with_and_without_a_folder(tmp_path: Path) -> None:
    for source in (None, folder(tmp_path / "s")):
        assert [v for v in check_component("dataset", ENTRY, source=source) if v.ok is False] == []


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("name,AF\n1,1\n", r"lacks the columns \['record'\]"),
        ("record,age\n2,50\n", "has no column of a class"),
        ("record,AF\n2,perhaps\n", "AF is 'perhaps'; wanted 0, 1, true or false"),
        ("record,AF\n,1\n", "record is empty"),
        ("record,AF,fold\n2,1,11\n", "fold is '11'; wanted 1 to 10"),
        ("record,AF,fold,patient\n2,1,1,p\n3,1,2,p\n", "patient 'p' is in the folds 1 and 2"),
        ("record,\x1b[31mAF\n2,1\n", r"'.x1b.31mAF' has characters that cannot be printed"),
        ("record,AF\n2\x9b,1\n", "has characters that cannot be printed"),
        ("record,AF,AF\n2,1,0\n", r"has the columns \['AF'\] twice"),
        ("record,report,AF\n2,Sinus rhythm, normal,1\n", "labels.csv line 2 has 4 cells, the header 3"),
        ("record,AF,long_QT\n2,1,0\n3,1", "labels.csv line 3 has 2 cells, the header 3"),
        ("record,AF\n2,1\n2.hea,0\n", "lists the record '2' twice"),
        ("record,AF\na/1,1\na\\1,0\n", "lists the record 'a/1' twice"),
    ],
)
def test_a_mistake_in_the_table_is_told(table: str, said: str, tmp_path: Path) -> None:
    source = folder(tmp_path / "s", table)
    with pytest.raises(UserError, match=said):
        prepare(WFDBFolder(), name="wfdb-folder", source=source, root=tmp_path / "store")


@pytest.mark.parametrize("sign", [";", "\t"])
def test_a_table_of_a_spreadsheet_is_the_same_table(sign: str, tmp_path: Path) -> None:
    source = folder(tmp_path / "s")
    plain = list(WFDBFolder().infos(source))
    text = TABLE.replace(",", sign).replace("a/1", "a\\1").replace("\n", "\r\n").replace(f"{sign}40{sign}", f'{sign}"40"{sign}')
    (source / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(WFDBFolder().infos(source)) == plain


def test_a_table_in_another_encoding_is_told(tmp_path: Path) -> None:
    source = folder(tmp_path / "s")
    (source / "labels.csv").write_bytes("record,report,AF\n2,Mühe,1\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"not UTF-8 .* at byte 20.; save it as CSV in UTF-8"):
        list(WFDBFolder().infos(source))


@pytest.mark.parametrize(
    ("cell", "age"), [(">89", 90), ("> 89", 90), ("NaN", None), ("inf", None), ("-3", None), (">20", None)]
)
def test_an_age_is_what_can_be_believed(cell: str, age: float | None, tmp_path: Path) -> None:
    assert next(iter(WFDBFolder().infos(folder(tmp_path / "s", f"record,age,AF\n2,{cell},1\n")))).age == age


def test_names_that_look_like_markup_are_shown_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    source = folder(tmp_path / "s", "record,AF [/b],[red]ST\n2,1,0\n[/b]2,1,1\n")
    for suffix in (".hea", ".dat"):
        (source / "[").mkdir(exist_ok=True)
        shutil.copyfile(source / f"2{suffix}", source / "[" / f"b]2{suffix}")
    (source / "[" / "b]2.hea").write_text((source / "2.hea").read_text().replace("2.dat", "b]2.dat"))
    made = ["prepare", "wfdb-folder", "--from", str(source), "-o", "licence=[/x] ours"]
    for command in (made, ["list"], ["show", "wfdb-folder"], ["leakage", "wfdb-folder"]):
        with pytest.raises(SystemExit, match=r"^0$"):
            main(["data", *command])
    told = capsys.readouterr().out
    assert all(name in told for name in ("AF [/b]", "[red]ST", "licence=[/x] ours", "[/b]2"))


def test_segments_with_one_layout_are_one_record_and_others_say_so(tmp_path: Path) -> None:
    """Every record of several segments was refused."""
    source = folder(tmp_path / "s", "record,AF\n2,1\n3,1\nboth,1\nvariable,0\n")
    (source / "both.hea").write_text("both/2 12 500 10000\n2 5000\n3 5000\n")
    (source / "variable.hea").write_text("variable/2 12 500 5000\nlayout 0\n2 5000\n")
    store = prepare(WFDBFolder(), name="wfdb-folder", source=source, root=tmp_path / "store")
    assert store.manifest.quarantined == {"several-layouts": 1}
    joined = np.concatenate([store.signal(0).millivolts, store.signal(1).millivolts], axis=1)
    assert np.allclose(store.signal(2).millivolts, joined, atol=1e-4)


def test_a_record_out_of_the_folder_is_quarantined_and_a_table_out_of_it_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str | None] = []
    source = folder(tmp_path / "s", "record,AF\n2,1\n../x,0\n/etc/passwd,0\n")
    monkeypatch.setattr(WFDBFolder, "files", lambda _, where, info: opened.append(info.path) or iter(()))
    store = prepare(WFDBFolder(), name="wfdb-folder", source=source, root=tmp_path / "store")
    assert store.manifest.quarantined == {"unsafe-path": 2}
    assert set(opened) == {"2"}, "no file of the others is looked at"
    with pytest.raises(UserError, match="leaves the folder"):
        WFDBFolder(labels="../labels.csv")


@pytest.mark.parametrize(
    ("segments", "code"),
    [
        ("~ 5000\n~ 5000", "missing-samples"),
        ("../2 5000\n3 5000", "unsafe-path"),
        ("2 4000\n3 6000", "unreadable-header"),
        ("2 5000\nfew 5000", "several-layouts"),
    ],
)
def test_segments_that_make_no_record_are_refused(segments: str, code: str, tmp_path: Path) -> None:
    source = folder(tmp_path / "s")
    lines = (source / "2.hea").read_text().splitlines()
    lines[5] = lines[5].rpartition(" ")[0] + " V9"
    (source / "few.hea").write_text("\n".join(lines) + "\n")
    (source / "both.hea").write_text(f"both/2 12 500 10000\n{segments}\n")
    with pytest.raises(BadRecord) as refused:
        read_wfdb(source, "both")
    assert refused.value.code == code


def test_a_gap_between_segments_is_missing_samples(tmp_path: Path) -> None:
    source = folder(tmp_path / "s")
    (source / "both.hea").write_text("both/3 12 500 10030\n2 5000\n~ 30\n3 5000\n")
    missing = np.isnan(read_wfdb(source, "both").millivolts).all(axis=0)
    assert missing.nonzero()[0].tolist() == list(range(5000, 5030))
