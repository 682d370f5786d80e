"""Real files of carts: their values as second readers make them, and a run on them from end to end."""

from __future__ import annotations

import base64
import os
import re
import shutil
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hospital_folder import assert_nobody, made
from vendor_files import EIGHT

from melp_bench.cli import _run
from melp_bench.leads import LEADS
from melp_bench.records import Signal
from melp_bench.results import read_results
from melp_bench.store.pack import pack
from melp_plugins.datasets.ecg_files import ECGFiles

pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")
pydicom = pytest.importorskip("pydicom", reason="pip install 'melp-bench[vendor]'")
REAL = Path(os.environ.get("MELP_BENCH_VENDOR_ECG") or "/nonexistent")
pytestmark = [
    pytest.mark.skipif(not REAL.is_dir(), reason="set MELP_BENCH_VENDOR_ECG to the folder with muse-1.xml, ..."),
    pytest.mark.usefixtures("own_home"),
]


def real(name: str) -> Signal:
    return ECGFiles()._read(REAL / name).signal


@pytest.mark.parametrize("name", ["muse-1.xml", "muse-3.xml"])
def test_a_real_muse_file_is_what_its_bytes_say(name: str) -> None:
    rhythm = next(
        wave for wave in ET.parse(REAL / name).getroot().findall("Waveform") if wave.findtext("WaveformType") == "Rhythm"
    )
    signal = real(name)
    assert signal.leads == EIGHT
    assert signal.rate_hz == 500
    for row, lead in zip(signal.millivolts, rhythm.findall("LeadData"), strict=True):
        data = base64.b64decode(lead.findtext("WaveFormData") or "")
        own = np.array(struct.unpack(f"<{len(data) // 2}h", data))
        assert np.allclose(row, own * 4.88e-3, atol=1e-6)
        assert lead.findtext("LeadAmplitudeUnitsPerBit") == "4.88"


def test_the_real_aecg_and_scp_files_are_one_recording_and_what_the_digits_say() -> None:
    text = (REAL / "aecg-1.xml").read_text()
    first = text[: text.index("<derivation>")]
    found = re.findall(r'MDC_ECG_LEAD_(\w+)".*?<scale value="([\d.]+)" unit="uV"\s*/>.*?<digits>([^<]*)<', first, re.DOTALL)
    one, other = real("aecg-1.xml"), real("scp-1.scp")
    assert len(found) == 12
    assert one.leads == other.leads
    assert one.rate_hz == other.rate_hz == 500
    for row, name, (lead, scale, digits) in zip(one.millivolts, one.leads, found, strict=True):
        assert name.upper() == lead
        assert np.allclose(row, np.array(digits.split(), dtype=float) * float(scale) / 1000, atol=1e-6)
    assert np.allclose(one.millivolts, other.millivolts, atol=1e-6)


def test_the_real_dicom_file_is_what_its_bytes_say() -> None:
    content = (REAL / "dicom-1.dcm").read_bytes()
    at = content.index(b"\x00\x54\x10\x10OW\0\0")  # the first Waveform Data, in explicit little-endian
    (length,) = struct.unpack_from("<I", content, at + 8)
    own = np.frombuffer(content, "<i2", length // 2, at + 12).reshape(-1, 12).T
    signal = real("dicom-1.dcm")
    assert signal.rate_hz == 1000
    assert pack(signal).leads == LEADS
    assert np.allclose(signal.millivolts, own * 1.25e-3, atol=1e-6)
    kit = pytest.importorskip("ecgdatakit.parsing.parser").FileParser.parse(REAL / "dicom-1.dcm")
    assert np.allclose(signal.millivolts, [lead.samples for lead in kit.leads], atol=1e-6)


def test_the_real_sierra_file_is_what_another_reader_makes_of_it() -> None:
    sierraecg = pytest.importorskip("sierraecg", reason="pip install 'melp-bench[test]'")
    signal = real("philips-sierra-1_03.xml")
    other = sierraecg.read_file(str(REAL / "philips-sierra-1_03.xml")).leads
    assert signal.leads == tuple(lead.label for lead in other) == LEADS
    assert np.allclose(signal.millivolts, np.array([lead.samples for lead in other]) * 5e-3, atol=1e-6)


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
