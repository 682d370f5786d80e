"""WFDB records as tools and devices write them: good ones are read, to the value, and what is bad is said by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb
from numpy.typing import NDArray

from melp_bench.components import BadRecord
from melp_bench.errors import UserError
from melp_bench.lead_names import known_lead
from melp_bench.records import Signal
from melp_bench.signal import LEADS
from melp_bench.store.pack import pack
from melp_bench.testing import check_component
from melp_plugins.datasets.csn import CSN
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.synthetic import Synthetic
from melp_plugins.datasets.wfdb_files import native_files, read_wfdb
from melp_plugins.datasets.wfdb_folder import WFDBFolder, melp_datasets

Digital = NDArray[np.int64]


def digital(seed: int = 0, samples: int = 600, limit: int = 100) -> Digital:
    return np.random.default_rng(seed).integers(-limit, limit, (samples, 12))


def written(folder: Path, values: Digital, *, fmt: str = "16", leads: tuple[str, ...] = LEADS) -> Path:
    """Write a record "r" with 100 units per millivolt and return its header."""
    folder.mkdir(parents=True, exist_ok=True)
    count = values.shape[1]
    wfdb.wrsamp("r", 500, ["mV"] * count, list(leads), d_signal=values, fmt=[fmt] * count, adc_gain=[100.0] * count,
                baseline=[0] * count, write_dir=str(folder))  # fmt: skip
    return folder / "r.hea"


def edited(header: Path, change: tuple[str, str]) -> Path:
    before, after = change
    text = header.read_text()
    assert before in text
    header.write_text(text.replace(before, after))
    return header


def lines_of(header: Path) -> list[list[str]]:
    return [line.split() for line in header.read_text().splitlines()]


def put_lines(header: Path, lines: list[list[str]]) -> None:
    header.write_text("\n".join(" ".join(cells) for cells in lines) + "\n")


def test_a_header_that_states_no_checksum_is_no_mismatch_and_one_that_does_is(tmp_path: Path) -> None:
    """First value 0 and checksum 0 in every line, which a common tool writes, refused every record."""
    header = written(tmp_path, digital())
    lines = lines_of(header)
    put_lines(header, [lines[0], *([*cells[:5], "0", "0", *cells[7:]] for cells in lines[1:])])
    signal = read_wfdb(tmp_path, "r")
    assert signal.quality_flags == ("checksum-not-stated",)
    assert np.allclose(signal.millivolts.T, digital() / 100)
    assert "checksum-not-stated" in pack(signal).quality_flags
    put_lines(header, [lines[0], [*lines[1][:5], "0", "0", *lines[1][7:]], *lines[2:]])
    with pytest.raises(BadRecord, match="checksum-mismatch"):
        read_wfdb(tmp_path, "r")


@pytest.mark.parametrize("fmt", ["508", "516", "524"])
def test_compressed_samples_are_those_that_were_written(fmt: str, tmp_path: Path) -> None:
    """FLAC was an unsupported format."""
    written(tmp_path, digital(), fmt=fmt)
    assert np.allclose(read_wfdb(tmp_path, "r").millivolts.T, digital() / 100)


def test_a_compressed_file_that_promises_too_much_is_not_read(tmp_path: Path) -> None:
    header = written(tmp_path, digital(), fmt="516")
    edited(header, (" 500 600", " 500 60000000000"))
    with pytest.raises(BadRecord, match="truncated"):
        read_wfdb(tmp_path, "r")


def test_several_samples_per_frame_are_a_higher_rate(tmp_path: Path) -> None:
    values = digital(samples=1200)
    header = written(tmp_path, values)
    edited(header, (" 500 1200", " 250 600"))
    edited(header, ("r.dat 16 ", "r.dat 16x2 "))
    frames = values.reshape(600, 2, 12).transpose(0, 2, 1)  # of each lead two samples, lead after lead
    frames.astype("<i2").tofile(tmp_path / "r.dat")
    signal = read_wfdb(tmp_path, "r")
    assert signal.rate_hz == 500
    assert np.allclose(signal.millivolts.T, values / 100)


def test_a_skewed_lead_is_moved_to_its_time(tmp_path: Path) -> None:
    header = written(tmp_path, digital())
    edited(header, ("r.dat 16 ", "r.dat 16:3 "))
    millivolts = read_wfdb(tmp_path, "r").millivolts.T
    assert np.allclose(millivolts[:-3], digital()[3:] / 100)
    assert np.isnan(millivolts[-3:]).all()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """One message named a format, several samples per frame and skew together."""
    header = written(tmp_path, digital())
    text = header.read_text()
    header.write_text(text.replace("r.dat 16 ", "r.dat 517 "))
    with pytest.raises(BadRecord, match=r"'r.dat' is of format 517; wanted one of 8, 16"):
        read_wfdb(tmp_path, "r")
    header.write_text(text.replace("r.dat 16 ", "r.dat 16x4 ", 1))
    with pytest.raises(BadRecord, match="leads of 1, 4 samples per frame"):
        read_wfdb(tmp_path, "r")


def test_twelve_good_leads_need_no_other_channel(tmp_path: Path) -> None:
    """A file of Frank leads that was missing, and a channel in other units, refused the record."""
    header = written(tmp_path, np.concatenate([digital(), digital(1)[:, :1]], axis=1), leads=(*LEADS, "resp"))
    lines = lines_of(header)
    put_lines(header, [*lines[:-1], [*lines[-1][:2], "100.0(0)/l", *lines[-1][3:]]])
    signal = read_wfdb(tmp_path, "r")
    assert (signal.leads, signal.quality_flags) == (LEADS, ())
    assert np.allclose(signal.millivolts.T, digital() / 100)
    header = written(tmp_path, digital())
    lines = lines_of(header)
    xyz = [["r.xyz", *lines[1][1:8], name] for name in ("vx", "vy", "vz")]
    put_lines(header, [["r", "15", *lines[0][2:]], *lines[1:], *xyz])
    assert np.allclose(read_wfdb(tmp_path, "r").millivolts.T, digital() / 100)
    assert list(native_files(tmp_path, "r")) == ["r.hea", "r.dat", "r.xyz"]


def test_a_record_that_joins_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_text("r/2 12 500 1200\nr 600\n../x 600\n")
    assert list(native_files(tmp_path, "r")) == ["r.hea", "r.hea"]
    with pytest.raises(BadRecord, match="the segment 'r' has segments itself"):
        read_wfdb(tmp_path, "r")


def test_a_record_knows_the_files_of_its_segments(tmp_path: Path) -> None:
    written(tmp_path, digital())
    (tmp_path / "both.hea").write_text("both/3 12 500 1260\nr 600\n~ 60\nr 600\n")
    assert list(dict.fromkeys(native_files(tmp_path, "both"))) == ["both.hea", "r.hea", "r.dat"]
    millivolts = read_wfdb(tmp_path, "both").millivolts.T
    assert np.isnan(millivolts[600:660]).all()
    assert np.allclose(millivolts[660:], digital() / 100)


def test_fewer_than_twelve_leads_tell_which_channels_could_not_be_read(tmp_path: Path) -> None:
    header = written(tmp_path, digital()[:, :11], leads=LEADS[:11])
    lines = lines_of(header)
    put_lines(header, [["r", "12", *lines[0][2:]], *lines[1:], ["lost.dat", *lines[-1][1:8], "foo"]])
    signal = read_wfdb(tmp_path, "r")
    assert (signal.leads, signal.quality_flags) == (LEADS[:11], ("unread-channels: 'foo'",))


def test_microvolts_in_latin_1_are_microvolts(tmp_path: Path) -> None:
    header = written(tmp_path, digital())
    header.write_bytes(header.read_text().replace("/mV", "/µV").encode("latin-1"))
    assert np.allclose(read_wfdb(tmp_path, "r").millivolts.T, digital() / 100e3)


NAMES = {
    "I": ["MDC_ECG_LEAD_I", "Lead I (Einthoven)", "EKG I", "ECG-I", "I (mV)", "ECG Lead I", "lead_i", "DI"],
    "aVR": ["aVR lead", "MDC_ECG_LEAD_AVR", "ECG aVR", "AVR [uV]"],
    "V4": ["V4 (mV)", "EKG V4", "C4", "MDC_ECG_LEAD_V4"],
}


@pytest.mark.parametrize(("lead", "name"), [(lead, name) for lead, names in NAMES.items() for name in names])
def test_a_lead_is_known_by_the_names_that_files_have(lead: str, name: str) -> None:
    """Only the standard names and few others were known."""
    assert known_lead(name) == (lead, 1)


@pytest.mark.parametrize("name", ["V4R", "V7", "resp", "X", "V4 (V4R)", "vx", "lead", "", "aVR-aVL", "pleth", "I-II"])
def test_another_lead_is_not_taken_for_a_standard_one(name: str) -> None:
    assert known_lead(name) is None


@pytest.mark.parametrize("name", ["-aVR", "ECG -aVR", "\u2212 aVR".replace(" ", ""), "MDC_ECG_LEAD_aVRneg", "-aVR (mV)"])
def test_a_minus_is_a_sign_and_a_hyphen_is_not(name: str) -> None:
    assert known_lead(name) == ("aVR", -1)
    assert known_lead("ECG - aVR") == known_lead("ECG-aVR") == ("aVR", 1)


def test_an_inverted_avr_is_turned_and_said() -> None:
    """Its samples were left out, for the lead's name was unknown."""
    x = np.random.default_rng(0).normal(0, 0.3, (12, 1000)).astype(np.float32)
    turned = pack(Signal(x, 500.0, tuple("-aVR" if lead == "aVR" else lead for lead in LEADS)))
    plain = pack(Signal(x * np.where(np.array(LEADS) == "aVR", -1, 1)[:, None].astype(np.float32), 500.0))
    assert (turned.leads, turned.repairs, turned.verdict) == (LEADS, ("turned-leads",), "repaired")
    assert np.array_equal(turned.values, plain.values)


def test_leads_of_a_device_are_named_by_an_option(tmp_path: Path) -> None:
    written(tmp_path, digital(), leads=("X", *LEADS[1:]))
    (tmp_path / "labels.csv").write_text("record,AF\nr.DAT,1\n")
    dataset = WFDBFolder(leads=("X=I",))
    (info,) = dataset.infos(tmp_path)
    assert info.path == "r", "the name of the signal file is the record's, too"
    assert dataset.signal(tmp_path, info).leads == LEADS
    turned = pack(WFDBFolder(leads=("X=-I",)).signal(tmp_path, info))
    assert np.array_equal(turned.values[0], -pack(dataset.signal(tmp_path, info)).values[0])
    assert (turned.leads, turned.repairs) == (LEADS, ("turned-leads",))
    with pytest.raises(UserError, match="unknown lead 'Q'"):
        WFDBFolder(leads=("X=Q",))


@pytest.mark.parametrize(("ending", "kind"), [("dcm", "DICOM"), ("xml", "XML"), ("scp", "SCP-ECG"), ("edf", "EDF")])
def test_a_folder_of_other_files_is_told_what_it_is(ending: str, kind: str, tmp_path: Path) -> None:
    """It was told that labels.csv is missing; with a table, that every record is."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"1.{ending.upper()}").touch()
    for _ in range(2):
        with pytest.raises(UserError, match=f"holds {kind} files and no WFDB header"):
            list(WFDBFolder().infos(tmp_path))
        (tmp_path / "labels.csv").write_text("record,AF\na/1,1\n")


def test_linked_folders_are_searched_once_and_circles_end(tmp_path: Path) -> None:
    """Records behind a link to another folder were left out, without a word."""
    for folder, name in (("here", "JS00001"), ("elsewhere", "JS00002")):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / f"{name}.hea").write_text(f"{name} 12 500 5000\n# Age: 50\n")
    source = tmp_path / "here"
    (source / "a_link").symlink_to(tmp_path / "elsewhere")
    (source / "b_link").symlink_to(tmp_path / "elsewhere")
    (source / "c_own").symlink_to(source / "deep")
    (source / "deep" / "up").symlink_to(source)
    (source / "gone").symlink_to(tmp_path / "nowhere")
    found = [path.relative_to(source).as_posix() for path in files_below(source, "*.hea")]
    assert found == ["a_link/deep/JS00002.hea", "deep/JS00001.hea"]
    assert [info.path for info in CSN().infos(source)] == ["a_link/deep/JS00002", "deep/JS00001"]


def test_a_folder_with_a_devices_names_conforms(tmp_path: Path) -> None:
    made = Synthetic(num_records=1)
    (info,) = made.infos(tmp_path)
    signal = made.signal(tmp_path, info)
    signs = np.array([-1.0 if lead == "aVR" else 1.0 for lead in signal.leads])
    names = ["-aVR" if lead == "aVR" else f"MDC_ECG_LEAD_{lead.upper()}" for lead in signal.leads]
    wfdb.wrsamp("r", int(signal.rate_hz), ["mV"] * 12, names, signal.millivolts.T.astype(float) * signs, fmt=["16"] * 12,
                write_dir=str(tmp_path))  # fmt: skip
    (tmp_path / "labels.csv").write_text("record,AF\nr,1\n")
    verdicts = check_component("dataset", melp_datasets()[0], source=tmp_path)
    assert [verdict for verdict in verdicts if verdict.ok is False] == []
