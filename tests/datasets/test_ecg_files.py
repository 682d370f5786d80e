"""A hospital's folder of vendor files: what is taken along, what never is, what is told, and a run on it from end to end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from vendor_files import EIGHT, Person, aecg, aecg_series, heart, ishne, mfer, muse, muse_waveform, rows, scp, sierra

from melp_bench.cli import _run
from melp_bench.errors import UserError
from melp_bench.pseudonyms import pseudonym
from melp_bench.registry import Entry
from melp_bench.results import read_results
from melp_bench.signal import LEADS, SignalSpec, conform
from melp_bench.splits import hash_fold
from melp_bench.store import Store, prepare
from melp_bench.testing import check_component
from melp_plugins.datasets.ecg_file import Identity
from melp_plugins.datasets.ecg_files import ECGFiles, melp_datasets
from melp_plugins.datasets.wfdb_folder import WFDBFolder

pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")
pydicom = pytest.importorskip("pydicom", reason="pip install 'melp-bench[vendor]'")

ENTRY: Entry = melp_datasets()[0]
REAL = Path(os.environ.get("MELP_BENCH_VENDOR_ECG") or "/nonexistent")
needs_files = pytest.mark.skipif(not REAL.is_dir(), reason="set MELP_BENCH_VENDOR_ECG to the folder with muse-1.xml, ...")
STRIP = heart()
SOMEONE = Person()
SAID = (
    "Sinus rhythm",
    "Left axis deviation, as told by Ms. Vanderquist born 07-23-1931",
    "Confirmed by OKONKWO, ADA MD (7) on 1/2/2024",
)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))


def made(source: Path, tmp_path: Path, name: str = "store", **options: object) -> Store:
    return prepare(ECGFiles(**options), name="ecg-files", source=source, root=tmp_path / name)  # type: ignore[arg-type]


def everybody(folder: Path, person: Person = SOMEONE) -> Path:
    """Return a folder with a file of each kind, all of one person."""
    (folder / "ward/2024").mkdir(parents=True)
    strip = rows(STRIP, EIGHT)
    (folder / "a.xml").write_bytes(muse(muse_waveform("Rhythm", strip, EIGHT), person=person, statements=SAID))
    (folder / "b.xml").write_bytes(aecg(aecg_series("RHYTHM", STRIP, LEADS), person=person))
    (folder / "ward/c.xml").write_bytes(sierra(STRIP, person=person))
    (folder / "ward/2024/d.scp").write_bytes(scp(STRIP, person=person, text=f"Seen by {person.physician} for {person.last}"))
    (folder / "e.ecg").write_bytes(ishne(STRIP, LEADS, person=person))
    (folder / "f.mwf").write_bytes(mfer(STRIP, LEADS, person=person))
    (folder / "g.dcm").write_bytes(dicom_of(person, folder / "w"))
    (folder / "w").unlink()
    (folder / "notes.pdf").write_bytes(b"%PDF")
    return folder


def dicom_of(person: Person, path: Path) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset

    group, whole, text = Dataset(), Dataset(), Dataset()
    channels = []
    for lead in LEADS:
        channel, source, unit = Dataset(), Dataset(), Dataset()
        source.CodeValue, source.CodeMeaning = "x", f"Lead {lead}"
        unit.CodeValue = "uV"
        channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = [source], [unit]
        channel.ChannelSensitivity = "5"
        channels.append(channel)
    group.ChannelDefinitionSequence = channels
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = STRIP.shape
    group.SamplingFrequency, group.WaveformBitsAllocated, group.WaveformSampleInterpretation = "500", 16, "SS"
    group.WaveformData = STRIP.T.astype("<i2").tobytes()
    text.UnformattedTextValue = f"Normal ECG of {person.first}\r\nReviewed by: Dr. {person.physician}"
    whole.WaveformSequence, whole.WaveformAnnotationSequence = [group], [text]
    whole.SOPClassUID, whole.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3"
    whole.PatientID, whole.PatientName = person.number, f"{person.last}^{person.first}"
    whole.PatientBirthDate, whole.PatientSex = person.born.replace("-", ""), person.sex
    whole.ReferringPhysicianName, whole.AcquisitionDateTime = person.physician, "20240102101112"
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    whole.save_as(path, enforce_file_format=True)
    return path.read_bytes()


def all_bytes(folder: Path) -> bytes:
    """Return every byte of a store, and the cells of its tables as text besides, for Parquet packs them."""
    import pyarrow.parquet as pq

    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "lock" not in path.name]
    tables = [str(pq.read_table(path).to_pylist()).encode() for path in files if path.suffix == ".parquet"]
    return b"\n".join([*(path.read_bytes() for path in files), *tables])


def assert_nobody(folder: Path, secrets: Sequence[str]) -> None:
    content = all_bytes(folder).lower()
    assert b"report" in content, "something was looked at"
    for secret in secrets:
        for form in (secret.lower().encode(), secret.lower().encode("utf-16-le")):
            assert form not in content, f"{secret!r} is in the store"


# --------------------------------------------------------------------------------------------------------- what is taken


def test_a_mix_of_files_becomes_records_of_one_patient(tmp_path: Path) -> None:
    store = made(everybody(tmp_path / "s"), tmp_path)
    assert store.record_ids.tolist() == ["a.xml", "b.xml", "e.ecg", "f.mwf", "g.dcm", "ward/2024/d.scp", "ward/c.xml"]
    assert store.manifest.quarantined == {}
    assert len(set(store.patient_ids.tolist())) == 1
    assert set(store.folds.tolist()) == {hash_fold(store.patient_ids[0])}
    assert set(store.sexes.tolist()) == {"F"}
    assert set(store.ages.tolist()) == {90.0}, "92 and 93 years are hidden"
    assert store.reports[0] == "Sinus rhythm. Left axis deviation, as told by Ms. ___ born ___."
    assert store.reports[4] == "Normal ECG of ___."
    assert store.statements[6] == {"report: sinus rhythm"}
    assert store.leads[0] == EIGHT, "a store keeps what the source had"
    spec = SignalSpec(rate_hz=500, seconds=3)
    import torch

    twelve = [
        conform(torch.from_numpy(signal.millivolts)[None], rate_hz=500, leads=signal.leads, spec=spec)
        for signal in map(store.signal, range(7))
    ]
    for one in twelve[1:]:
        assert np.allclose(one, twelve[1], atol=1e-5)
    assert np.allclose(twelve[0], twelve[1], atol=0.0076), "III, aVR, aVL and aVF by algebra, others to half a unit each"


def test_measurements_are_taken_along(tmp_path: Path) -> None:
    info = next(ECGFiles().infos(everybody(tmp_path / "s")))
    assert info.measurements == {"heart_rate": 61, "pr_interval": 158, "qt_interval": 402}


def test_no_name_number_or_date_of_birth_is_anywhere_in_a_store(tmp_path: Path) -> None:
    source = everybody(tmp_path / "s")
    (source / "labels.csv").write_text(
        "record,patient,report,AF\n"
        + "".join(f"{name},{SOMEONE.number},Ms. {SOMEONE.last} has AF,1\n" for name in ("a.xml", "ward/c", "g"))
    )
    made(source, tmp_path)
    assert_nobody(tmp_path / "store", SOMEONE.secrets)
    (source / "labels.csv").unlink()
    made(source, tmp_path, "other")
    assert_nobody(tmp_path / "other", SOMEONE.secrets)


def test_records_whose_files_are_named_by_patients_are_named_by_digests(tmp_path: Path) -> None:
    source = everybody(tmp_path / "s")
    (source / "a.xml").rename(source / f"{SOMEONE.last.upper()}_{SOMEONE.number}_19310723.xml")
    (source / "broken.scp").write_bytes(scp(STRIP)[:-9])
    told: list[str] = []
    store = prepare(ECGFiles(), name="ecg-files", source=source, root=tmp_path / "store", tell=told.append)
    assert "1 names of files tell who the patient is: all records are named by digests" in told
    assert_nobody(tmp_path / "store", [*SOMEONE.secrets, "ward", "broken"])
    assert len(store) == 7
    again = prepare(ECGFiles(), name="ecg-files", source=source, root=tmp_path / "again", workers=2)
    assert again.fingerprint == store.fingerprint
    assert len(set(store.patient_ids.tolist())) == 1


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (Identity("a7"), Identity(" A7 "), True),
        (Identity("a7", ("Ann",)), Identity("a7", ("Bea",)), True),
        (Identity("", ("Ann  Lee",)), Identity("000000", ("ann", "lee")), True),
        (Identity("a7"), Identity("a8"), False),
    ],
)
def test_a_patient_is_told_by_number_and_without_one_by_name(one: Identity, other: Identity, alike: bool) -> None:
    assert (one.patient_id == other.patient_id) == alike


def test_who_is_not_named_is_a_patient_of_its_own() -> None:
    assert [Identity(number).patient_id for number in ("", "0000", "unknown", "N/A")] == [None] * 4


# -------------------------------------------------------------------------------------------------------------- the table


def test_a_table_says_which_records_there_are_and_what_they_show(tmp_path: Path) -> None:
    source = everybody(tmp_path / "s")
    (source / "labels.csv").write_text(
        "record,patient,age,fold,AF,report\na.xml,p1,50,3,1,Atrial fibrillation.\nward\\c,p2,,4,0,\nnone.xml,p3,,5,1,\n"
        "../../x.xml,p4,,5,1,\n"
    )
    told: list[str] = []
    store = prepare(ECGFiles(), name="ecg-files", source=source, root=tmp_path / "store", tell=told.append)
    assert store.record_ids.tolist() == ["a.xml", "ward/c.xml"]
    assert store.task("all").classes == ("AF",)
    assert store.labels("all").ravel().tolist() == [True, False]
    assert store.ages.tolist() == [50.0, 92.0 - 2]
    assert store.folds.tolist() == [3, 4]
    assert store.reports[0] == "Atrial fibrillation."
    assert store.reports[1] == "Sinus rhythm."
    assert store.manifest.quarantined == {"missing-file": 1, "unsafe-path": 1}
    assert store.patient_ids[0] == pseudonym("patient p1")
    assert any("5 ECG files are not in labels.csv and left out, 'b.xml' one" in line for line in told)
    assert any("files that are no ECG were left out: 1 .pdf" in line for line in told)


def test_mistakes_are_told_in_a_line(tmp_path: Path) -> None:
    source = everybody(tmp_path / "s")
    for table, said in (
        ("name,AF\na.xml,1\n", "lacks the columns"),
        ("record,patient_id\na.xml,1\n", "is it the patient"),
        ("record,patient\na.xml,1.23457E+11\n", "a number that a spreadsheet shortened"),
        ("record,AF\na,1\na.xml,0\n", "lists the record 'a.xml' twice"),
    ):
        (source / "labels.csv").write_text(table)
        with pytest.raises(UserError, match=said):
            made(source, tmp_path)
    shutil.copy(source / "a.xml", source / "a.scp")
    (source / "labels.csv").write_text("record,AF\na,1\n")
    with pytest.raises(UserError, match=r"is 'a.xml' or 'a.scp'; give it with its ending"):
        made(source, tmp_path)
    with pytest.raises(UserError, match=r"cannot read .*other.csv"):
        made(source, tmp_path, labels="other.csv")
    for options, said in (({"unit": "mmHg"}, "wanted hertz, and uV"), ({"record_names": "x"}, "wanted file or digest")):
        with pytest.raises(UserError, match=said):
            ECGFiles(**options)  # type: ignore[arg-type]


def test_a_folder_without_an_ecg_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for name in ("1.hea", "1.dat"):
        (tmp_path / "s" / name).write_text("x")
    with pytest.raises(UserError, match=r"holds no ECG file that is read; it has .*1 .hea.*wfdb-folder"):
        made(tmp_path / "s", tmp_path)


def test_the_dataset_of_wfdb_sends_here(tmp_path: Path) -> None:
    """It said "take the dataset of these files", and there was none."""
    source = everybody(tmp_path / "s")
    with pytest.raises(
        UserError, match=r"holds DICOM and ISHNE and MFER and SCP-ECG and XML files .* prepare ecg-files --from"
    ):
        list(WFDBFolder().infos(source))


def test_files_that_were_meant_to_be_records_are_quarantined_and_never_dropped(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    (source / "a.xml").write_bytes(muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT)))
    (source / "b.xml").write_text("<html></html>")
    (source / "c.scp").write_bytes(b"")
    (source / "d.dcm").write_bytes(b"\0" * 200)
    (source / "e.XML").write_bytes((source / "a.xml").read_bytes()[:-3000])
    os.mkfifo(source / "f.xml")  # to open it would be to wait for ever
    store = made(source, tmp_path)
    assert store.record_ids.tolist() == ["a.xml"]
    assert store.manifest.quarantined == {"unreadable-samples": 1, "unsupported-format": 2, "zero-byte-file": 1}


def test_leads_of_the_device_are_named_by_an_option(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    (source / "a.xml").write_bytes(muse(muse_waveform("Rhythm", rows(STRIP, ("I", "II", "V1")), ("I", "II", "Brust 1"))))
    assert made(source, tmp_path).leads[0] == ("I", "II")
    assert made(source, tmp_path, "other", leads=("Brust 1=V1",)).leads[0] == ("I", "II", "V1")


# ------------------------------------------------------------------------------------------------------ hostile documents

NESTED = [f'<!ENTITY {inner}{f"&{outer};" * 10}">' for outer, inner in (("a", 'b "'), ("b", 'c "'), ("c", 'd "'), ("d", 'e "'))]
BOMB = '<!DOCTYPE x [<!ENTITY a "hahahahaha">' + "".join(NESTED)
BOMBS = {
    "expanding": (f"{BOMB}]>", "&e;" * 10),
    "quadratic": (f'<!DOCTYPE x [<!ENTITY a "{"A" * 100_000}">]>', "&a;" * 10_000),
    "a file": ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "&a;"),
    "a parameter": ('<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>', ""),
    "an address": ('<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd" [<!ENTITY a SYSTEM "http://127.0.0.1:9/x">]>', "&a;"),
}


@pytest.mark.parametrize("bomb", sorted(BOMBS))
@pytest.mark.parametrize("kind", ["muse", "aecg", "sierra"])
def test_entities_that_expand_or_lie_elsewhere_are_harmless(bomb: str, kind: str, tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    secret = "a1b2c3d4e5"
    (source / "secret.txt").write_text(secret)
    doctype, use = BOMBS[bomb]
    if kind == "muse":
        whole = muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT), statements=["@"], encoding="UTF-8").decode()
        whole = whole.replace('<!DOCTYPE RestingECG SYSTEM "restecg.dtd">', "")
    elif kind == "aecg":
        whole = aecg(aecg_series("RHYTHM", STRIP, LEADS), person=Person(first="@")).decode()
    else:
        whole = sierra(STRIP, person=Person(first="@")).decode()
    inner = (source / "secret.txt").as_uri()
    head, _, body = whole.partition("?>")
    (source / "a.xml").write_text(f"{head}?>{doctype.replace('file:///etc/passwd', inner)}{body.replace('@', use)}")
    (source / "b.xml").write_bytes(muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT)))
    store = made(source, tmp_path)
    assert store.record_ids.tolist() == ["b.xml"]
    assert list(store.manifest.quarantined) in (["unreadable-samples"], ["unsupported-format"])
    assert secret.encode() not in all_bytes(tmp_path / "store")


def test_a_document_of_endless_depth_or_names_ends_in_a_reason(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    for kind, root in (("m", "RestingECG"), ("h", "AnnotatedECG"), ("p", "restingecgdata")):
        (source / f"{kind}.xml").write_text(f"<{root}>" + "<a>" * 50_000 + "</a>" * 50_000 + f"</{root}>")
    (source / "b.xml").write_bytes(muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT, units="&#27;[31m" * 9)))
    (source / "c.xml").write_bytes(muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT)))
    store = made(source, tmp_path)
    assert store.record_ids.tolist() == ["c.xml"]
    assert sum(store.manifest.quarantined.values()) == 4


# ------------------------------------------------------------------------------------------------------- from end to end


def test_it_conforms_with_and_without_a_folder(tmp_path: Path) -> None:
    (everybody(tmp_path / "s") / "labels.csv").write_text("record,AF\na,1\nb,0\ne,0\n")
    for source in (None, tmp_path / "s"):
        assert [v for v in check_component("dataset", ENTRY, source=source) if v.ok is False] == []


PROTOCOL = """
name = "carts"
revision = 1
summary = "files of carts"
models = ["random-init"]

[datasets.ours]
dataset = "ecg-files"
split = "cross-validate"

[pretrain]
dataset = "ours"
steps = 1

[interval]
resamples = 10

[[evaluations]]
name = "knn"
tasks = ["ours/all"]
"""


@needs_files
def test_real_files_are_prepared_shown_drawn_verified_and_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "records"
    source.mkdir()
    native = [path for path in sorted(REAL.iterdir()) if path.suffix in (".xml", ".dcm", ".scp")]
    table = ["record,patient,sinus,fold"]
    for number in range(3):  # a board wants some records in every fold
        for path in native:
            name = f"{number}-{path.name}"
            shutil.copy(path, source / name)
            table.append(f"{name},p{len(table)},{len(table) % 2},{1 + len(table) % 10}")
    (source / "labels.csv").write_text("\n".join(table) + "\n")
    (tmp_path / "carts.toml").write_text(PROTOCOL)

    def call(*words: str) -> int:
        return _run([*words], verbose=False)

    assert call("data", "prepare", "ecg-files", "--from", str(source), "--workers", "1") == 0
    assert "18 records, 0 quarantined" in capsys.readouterr().out
    assert call("data", "verify", "ecg-files", "--from", str(source), "--all") == 0
    for path in native:
        assert call("data", "show", "ecg-files", "--plot", f"0-{path.name}", "--out", str(tmp_path / f"{path.name}.png")) == 0
        assert (tmp_path / f"{path.name}.png").stat().st_size > 20_000
    words = ["run", str(tmp_path / "carts.toml"), "--device", "cpu", "--set", "encoder.layers=1", "--workers", "1"]
    assert call(*words) == 0
    rows_made = list(read_results(tmp_path / "home" / "leaderboard" / "results"))
    assert [row.status for row in rows_made] == ["scored"]
    assert not rows_made[0].generated


@needs_files
def test_real_files_give_what_their_carts_said(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    for path in REAL.iterdir():
        shutil.copy(path, source / path.name)
    infos = {info.record_id: info for info in ECGFiles().infos(source)}
    assert infos["dicom-1.dcm"].report == "RITMO SINUSALE. ECG NORMALE."
    assert (infos["dicom-1.dcm"].age, infos["dicom-1.dcm"].sex) == (42, "F")
    assert infos["dicom-1.dcm"].measurements["qt_interval"] == 368
    assert infos["muse-1.xml"].measurements["qrs_duration"] == 96
    assert infos["muse-1.xml"].patient_id is None
    assert infos["philips-sierra-1_03.xml"].report.endswith("STd V1-V3. >>> Acute MI <<<.")
    assert infos["philips-sierra-1_03.xml"].measurements["heart_rate"] == 41
    assert infos["aecg-1.xml"].sex == "M"
    store = made(source, tmp_path)
    assert_nobody(tmp_path / "store", ["Clark", "subject1", "SBJ-123", "19530508", "1953-05-08", "SKJ18310123"])
    sierra_record = store.record_ids.tolist().index("philips-sierra-1_03.xml")
    assert store.signal(sierra_record).millivolts.shape == (12, 5264), "the pulse behind the heart is cut"
    assert not any("inconsistent" in flag for flag in store.quality_flags[sierra_record]), "as the pulse made them"
