"""Every format of `ecg-files` to the last unit: files made from the published descriptions, real ones by second readers."""

from __future__ import annotations

import base64
import os
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from vendor_files import (
    EIGHT,
    Digital,
    aecg,
    aecg_series,
    edf,
    heart,
    ishne,
    mfer,
    muse,
    muse_waveform,
    rows,
    scp,
    sierra,
)

from melp_bench.leads import LEADS
from melp_bench.records import BadRecord, Signal
from melp_bench.store.pack import pack
from melp_plugins.datasets.ecg_files import ECGFiles
from melp_plugins.datasets.sample_files import Stated, read_csv, read_npy

pydicom = pytest.importorskip("pydicom", reason="pip install 'melp-bench[vendor]'")
pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")

REAL = Path(os.environ.get("MELP_BENCH_VENDOR_ECG") or "/nonexistent")
needs_files = pytest.mark.skipif(not REAL.is_dir(), reason="set MELP_BENCH_VENDOR_ECG to the folder with muse-1.xml, ...")
HEART = heart()
STRIP, BEAT = HEART, HEART[:, :300]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Signal]:
    """Return what reads bytes as a file of a folder."""

    def reader(content: bytes, name: str = "a.xml", **options: object) -> Signal:
        (tmp_path / name).write_bytes(content)
        return ECGFiles(**options)._read(tmp_path / name).signal  # type: ignore[arg-type]

    return reader


def same(signal: Signal, digital: Digital, leads: tuple[str, ...], *, step: float = 5.0, rate_hz: float = 500.0) -> bool:
    """Return True if a signal is `digital` units of `step` microvolts, and a store keeps every unit."""
    packed = pack(signal)
    assert signal.rate_hz == rate_hz
    assert packed.leads == leads
    assert np.abs(signal.millivolts - digital * (step / 1000)).max() < 1e-6 * np.abs(digital * step).max()
    return np.array_equal(packed.values, digital)


# ------------------------------------------------------------------------------------------------------------ GE MUSE


@pytest.mark.parametrize("leads", [EIGHT, LEADS, (*LEADS, "V3R", "V4R", "V7")])
@pytest.mark.parametrize("encoding", ["ISO-8859-1", "UTF-8", "UTF-16"])
def test_muse_of_any_leads_encoding_and_order_of_waveforms(
    leads: tuple[str, ...], encoding: str, read: Callable[..., Signal]
) -> None:
    known = tuple(lead for lead in leads if lead in LEADS)
    strip = np.concatenate([rows(STRIP, known), np.zeros((len(leads) - len(known), STRIP.shape[1]), np.int16)])
    waves = [muse_waveform("Median", strip[:, :300] // 2, leads), muse_waveform("Rhythm", strip, leads)]
    for order in (waves, waves[::-1]):
        assert same(read(muse("".join(order), statements=["Größe ± µ"], encoding=encoding)), rows(STRIP, known), known)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"step": ""}, "bad-gain"),
        ({"step": "0"}, "bad-gain"),
        ({"step": "-5"}, "bad-gain"),
        ({"step": "nan"}, "bad-gain"),
        ({"units": ""}, "bad-gain"),
        ({"units": "FURLONGS"}, "unknown-unit"),
        ({"rate": ""}, "unreadable-samples"),
        ({"rate": "0"}, "unreadable-samples"),
    ],
)
def test_muse_that_does_not_state_what_its_samples_mean_is_refused(
    change: dict[str, str], code: str, read: Callable[..., Signal]
) -> None:
    with pytest.raises(BadRecord) as refused:
        read(muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT, **change)))
    assert refused.value.code in (code, "unknown-unit" if code == "bad-gain" else code)


def test_muse_in_other_units_and_rates(read: Callable[..., Signal]) -> None:
    strip = rows(STRIP, EIGHT)
    assert same(read(muse(muse_waveform("Rhythm", strip, EIGHT, step="0.005", units="MILLIVOLTS"))), strip, EIGHT)
    assert same(read(muse(muse_waveform("Rhythm", strip, EIGHT, rate="25", exponent="1"))), strip, EIGHT, rate_hz=250)
    flagged = read(muse(muse_waveform("Rhythm", strip, EIGHT, more="<FirstSampleBaseline>7</FirstSampleBaseline>")))
    assert flagged.quality_flags == ("offset-not-applied",)
    assert same(flagged, strip, EIGHT)


def test_muse_whose_samples_are_not_those_of_its_checksum_or_count_is_refused(read: Callable[..., Signal]) -> None:
    strip = rows(STRIP, EIGHT)
    whole = muse(muse_waveform("Rhythm", strip, EIGHT))
    wrong = re.sub(rb"<LeadDataCRC32>\d+", b"<LeadDataCRC32>1", whole, count=1)
    for content, code in ((wrong, "checksum-mismatch"), (whole.replace(b">3000<", b">2998<"), "unreadable-samples")):
        with pytest.raises(BadRecord) as refused:
            read(content)
        assert refused.value.code == code
    assert same(read(muse(muse_waveform("Rhythm", strip, EIGHT, crc=False))), strip, EIGHT)


def test_muse_of_several_strips_says_so_and_one_of_median_beats_alone_is_refused(read: Callable[..., Signal]) -> None:
    strip = rows(STRIP, EIGHT)
    two = read(muse(muse_waveform("Rhythm", strip, EIGHT) + muse_waveform("Rhythm", strip[:, ::-1], EIGHT)))
    assert two.quality_flags == ("other-waveforms",)
    assert same(two, strip, EIGHT)
    with pytest.raises(BadRecord, match="rhythm"):
        read(muse(muse_waveform("Median", strip[:, :300], EIGHT)))
    with pytest.raises(BadRecord) as refused:
        pack(read(muse(muse_waveform("Rhythm", strip, ("I", "II", *["V1"] * 6)))))
    assert refused.value.code == "duplicate-lead"


# ----------------------------------------------------------------------------------------------------------- HL7 aECG


@pytest.mark.parametrize("p", ["", "hl7:"])
@pytest.mark.parametrize(("unit", "step"), [("uV", "5"), ("mV", "0.005"), ("nV", "5000"), ("V", "5e-6")])
def test_aecg_of_any_unit_and_prefix_gives_the_rhythm_and_not_the_derived_beat(
    p: str, unit: str, step: str, read: Callable[..., Signal]
) -> None:
    derived = aecg_series("REPRESENTATIVE_BEAT", BEAT, LEADS, step=step, unit=unit, element="derivedSeries", p=p)
    rhythm = aecg_series(
        "RHYTHM", STRIP, LEADS, step=step, unit=unit, p=p, inner=f"<{p}derivation>{derived}</{p}derivation>"
    )  # fmt: skip
    assert same(read(aecg(rhythm, p=p)), STRIP, LEADS)


@pytest.mark.parametrize(
    ("increment", "rate_hz"), [(("2", "ms"), 500), (("0.004", "s"), 250), (("2000", "us"), 500), (("0.003", "s"), 1000 / 3)]
)
def test_aecg_states_its_rate_as_an_increment_which_is_not_rounded(
    increment: tuple[str, str], rate_hz: float, read: Callable[..., Signal]
) -> None:
    signal = read(aecg(aecg_series("RHYTHM", STRIP, LEADS, increment=increment)))
    assert signal.rate_hz == pytest.approx(rate_hz, rel=1e-12)
    assert np.array_equal(pack(signal).values, STRIP)


def test_aecg_with_an_origin_is_moved_by_it(read: Callable[..., Signal]) -> None:
    signal = read(aecg(aecg_series("RHYTHM", STRIP, LEADS, origin="100")))
    assert np.allclose(signal.millivolts, STRIP * 0.005 + 0.1, atol=1e-6)


@pytest.mark.parametrize("change", [{"step": ""}, {"unit": "mmHg"}, {"unit": ""}, {"increment": ("", "s")}, {"step": "0"}])
def test_aecg_that_does_not_state_what_its_samples_mean_is_refused(
    change: dict[str, object], read: Callable[..., Signal]
) -> None:
    with pytest.raises(BadRecord) as refused:
        read(aecg(aecg_series("RHYTHM", STRIP, LEADS, **change)))  # type: ignore[arg-type]
    assert refused.value.code in ("bad-gain", "unknown-unit", "unreadable-samples")


# ------------------------------------------------------------------------------------------------------- Philips Sierra


@pytest.mark.parametrize("form", ["XLI", "Base64", "Plain"])
@pytest.mark.parametrize("version", ["1.03", "1.04", "1.04.01"])
def test_sierra_of_any_packing_gives_the_samples(form: str, version: str, read: Callable[..., Signal]) -> None:
    assert same(read(sierra(STRIP, form=form, version=version)), STRIP, LEADS)


def test_sierra_that_states_no_resolution_or_more_samples_than_it_has_is_refused(read: Callable[..., Signal]) -> None:
    for content in (sierra(STRIP, resolution=""), sierra(STRIP, seconds=9), sierra(STRIP, form="Plain", seconds=9)):
        with pytest.raises(BadRecord):
            read(content)
    with pytest.raises(BadRecord, match="order of their own"):
        read(sierra(STRIP, ("II", "I", *LEADS[2:])))


def test_a_calibration_pulse_behind_the_heart_is_cut_and_told(tmp_path: Path) -> None:
    pulse = np.zeros((12, 500), np.int16)
    pulse[:, 200:300] = 200
    (tmp_path / "a.xml").write_bytes(sierra(np.concatenate([STRIP, pulse], axis=1)))
    dataset = ECGFiles()
    signal = dataset.signal(tmp_path, next(dataset.infos(tmp_path)))
    assert signal.repairs == ("calibration-cut",)
    assert same(signal, STRIP, LEADS)
    (tmp_path / "a.xml").write_bytes(sierra(np.concatenate([STRIP, 0 * pulse], axis=1)))
    padded = dataset.signal(tmp_path, next(dataset.infos(tmp_path)))
    assert padded.millivolts.shape[1] == STRIP.shape[1] + 500, "zeros alone are no calibration"


# ------------------------------------------------------------------------------------------------------------ SCP-ECG


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("huffman", ["", "default", "own"])
def test_scp_of_any_differences_and_code_gives_the_samples(order: int, huffman: str, read: Callable[..., Signal]) -> None:
    assert same(read(scp(STRIP, order=order, huffman=huffman), "a.scp"), STRIP, LEADS)


def test_scp_adds_the_reference_beat_again(read: Callable[..., Signal]) -> None:
    beat = (STRIP[:, 400:700] // 2).astype(np.int16)
    content = scp(STRIP, beat=beat, fiducials=(300, 700, 1200), fiducial=120)
    assert same(read(content, "a.scp"), STRIP, LEADS)


def test_scp_whose_interval_is_no_whole_rate_is_not_rounded(read: Callable[..., Signal]) -> None:
    assert read(scp(STRIP, interval_us=3906), "a.scp").rate_hz == pytest.approx(1e6 / 3906, rel=1e-12)


def test_scp_that_is_not_what_was_written_is_refused(read: Callable[..., Signal]) -> None:
    whole = scp(STRIP)
    broken = bytearray(whole)
    broken[-200] ^= 1
    for content, code in (
        (bytes(broken), "checksum-mismatch"),
        (whole[:-100], "unreadable-samples"),
        (scp(STRIP, step_nv=0), "bad-gain"),
        (scp(STRIP, interval_us=0), "unreadable-samples"),
    ):
        with pytest.raises(BadRecord) as refused:
            read(content, "a.scp")
        assert refused.value.code == code
    unstated = read(scp(STRIP, crc=False), "a.scp")
    assert unstated.quality_flags == ("checksum-not-stated",)
    assert same(unstated, STRIP, LEADS)


# --------------------------------------------------------------------------------------------------------------- DICOM


def dicom(
    digital: np.ndarray, leads: tuple[str, ...] = LEADS, *, bits: int = 16, form: str = "SS", sensitivity: str | None = "5",
    correction: str | None = "1", baseline: str | None = "0", unit: str = "uV", rate: str = "500", naming: str = "scp",
    label: str = "RHYTHM", before: tuple[pydicom.Dataset, ...] = (),
) -> pydicom.Dataset:  # fmt: skip
    """Return a 12-lead ECG waveform with one group behind those of `before`."""
    from pydicom.dataset import Dataset

    numbers = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {f"V{n}": n + 2 for n in range(1, 7)}
    group = Dataset()
    group.MultiplexGroupLabel, group.WaveformOriginality = label, "ORIGINAL"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = digital.shape
    group.SamplingFrequency = rate
    channels = []
    for lead in leads:
        channel, source = Dataset(), Dataset()
        source.CodingSchemeDesignator = "SCPECG" if naming == "scp" else "MDC"
        source.CodeValue = {
            "scp": f"5.6.3-9-{numbers[lead]}", "mdc": f"2:{numbers[lead]}", "text": f"MDC_ECG_LEAD_{lead.upper()}"
        }.get(naming, "x")  # fmt: skip
        source.CodeMeaning = f"Lead {lead}, of the chest" if naming == "meaning" else "unused"
        channel.ChannelSourceSequence = [source]
        if naming == "label":
            channel.ChannelLabel = lead
        if sensitivity is not None:
            units = Dataset()
            units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = unit, "UCUM", unit
            channel.ChannelSensitivity, channel.ChannelSensitivityUnitsSequence = sensitivity, [units]
        if correction is not None:
            channel.ChannelSensitivityCorrectionFactor = correction
        if baseline is not None:
            channel.ChannelBaseline = baseline
        channel.WaveformBitsStored = bits
        channels.append(channel)
    group.ChannelDefinitionSequence = channels
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = bits, form
    kind = {(8, "SB"): "i1", (8, "UB"): "u1", (16, "SS"): "<i2", (16, "US"): "<u2", (32, "SL"): "<i4"}[bits, form]
    group.WaveformData = digital.T.astype(kind).tobytes()
    whole = Dataset()
    whole.SOPClassUID, whole.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3"
    whole.Modality, whole.PatientAge, whole.PatientSex = "ECG", "042Y", "F"
    whole.WaveformSequence = [*(one.WaveformSequence[0] for one in before), group]
    return whole


def written(dataset: pydicom.Dataset, path: Path, *, implicit: bool = False, preamble: bool = True) -> bytes:
    if preamble:
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
        dataset.save_as(path, enforce_file_format=True)
    else:
        dataset.save_as(path, implicit_vr=implicit, little_endian=True)
    return path.read_bytes()


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("implicit", [True, False])
def test_dicom_of_any_encoding_gives_the_samples(
    preamble: bool, implicit: bool, tmp_path: Path, read: Callable[..., Signal]
) -> None:
    content = written(dicom(STRIP), tmp_path / "w", implicit=implicit, preamble=preamble)
    assert (content[128:132] == b"DICM") == preamble
    assert same(read(content, "a.dcm"), STRIP, LEADS)


@pytest.mark.parametrize("naming", ["scp", "mdc", "text", "meaning", "label"])
def test_dicom_names_leads_by_code_meaning_or_label(naming: str, tmp_path: Path, read: Callable[..., Signal]) -> None:
    assert same(read(written(dicom(STRIP, naming=naming), tmp_path / "w"), "a.dcm"), STRIP, LEADS)


@pytest.mark.parametrize(("bits", "form"), [(8, "SB"), (8, "UB"), (16, "US"), (32, "SL")])
def test_dicom_samples_of_any_width_with_gain_and_zero(
    bits: int, form: str, tmp_path: Path, read: Callable[..., Signal]
) -> None:
    step, zero = 40.0, 60.0
    coarse = np.rint(STRIP * 5 / step).clip(-100, 100).astype(np.int64) + (100 if form in ("UB", "US") else 0)
    made = dicom(coarse, bits=bits, form=form, sensitivity="20", correction="2", baseline="60", rate="1000")
    signal = read(written(made, tmp_path / "w"), "a.dcm")
    assert signal.rate_hz == 1000
    assert np.allclose(signal.millivolts, (coarse * step + zero) / 1000, atol=1e-6)


def test_dicom_gives_the_strip_with_most_leads_and_not_the_median_beat(tmp_path: Path, read: Callable[..., Signal]) -> None:
    median = dicom(BEAT, label="MEDIAN BEAT")
    one = dicom(STRIP[1:2], ("II",), label="RHYTHM 2")
    assert same(read(written(dicom(STRIP, before=(median,)), tmp_path / "w"), "a.dcm"), STRIP, LEADS)
    both = read(written(dicom(STRIP, before=(median, one)), tmp_path / "w"), "a.dcm")
    assert both.quality_flags == ("other-waveforms",)
    assert same(both, STRIP, LEADS)
    with pytest.raises(BadRecord, match="only median beats"):
        read(written(median, tmp_path / "w"), "a.dcm")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sensitivity": None}, "bad-gain"),
        ({"sensitivity": "0"}, "bad-gain"),
        ({"sensitivity": "-5"}, "bad-gain"),
        ({"unit": "mmHg"}, "unknown-unit"),
        ({"rate": "0"}, "bad-rate"),
        ({"naming": "none"}, "no-known-lead"),
    ],
)
def test_dicom_that_does_not_state_what_its_samples_mean_is_refused(
    change: dict[str, str], code: str, tmp_path: Path, read: Callable[..., Signal]
) -> None:
    with pytest.raises(BadRecord) as refused:
        read(written(dicom(STRIP, **change), tmp_path / "w"), "a.dcm")  # type: ignore[arg-type]
    assert refused.value.code == code


def test_dicom_cut_short_or_deflated_is_refused(tmp_path: Path, read: Callable[..., Signal]) -> None:
    short = dicom(STRIP)
    short.WaveformSequence[0].NumberOfWaveformSamples = STRIP.shape[1] + 1
    deflated = dicom(STRIP)
    deflated.file_meta = pydicom.dataset.FileMetaDataset()
    deflated.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    deflated.save_as(tmp_path / "z", enforce_file_format=True)
    for content, code in ((written(short, tmp_path / "w"), "truncated"), ((tmp_path / "z").read_bytes(), "unsupported-format")):
        with pytest.raises(BadRecord) as refused:
            read(content, "a.dcm")
        assert refused.value.code == code


# ------------------------------------------------------------------------------------------------ EDF, ISHNE and MFER


@pytest.mark.parametrize("kind", ["", "EDF+C", "EDF+D"])
def test_edf_gives_the_leads_among_other_channels(kind: str, read: Callable[..., Signal]) -> None:
    strip = np.concatenate([rows(STRIP, EIGHT), STRIP[:1]])
    labels = [f"ECG {lead}" for lead in EIGHT] + ["Resp chest"]
    assert same(read(edf(strip, labels, kind=kind), "a.edf"), rows(STRIP, EIGHT), EIGHT)


def test_edf_agrees_with_another_writer(tmp_path: Path, read: Callable[..., Signal]) -> None:
    edfio = pytest.importorskip("edfio", reason="pip install 'melp-bench[test]'")
    signals = [
        edfio.EdfSignal(row * 5.0, 500, label=f"ECG {lead}", physical_dimension="uV", physical_range=(-163840, 163835),
                        digital_range=(-32768, 32767))
        for lead, row in zip(LEADS, STRIP.astype(np.float64), strict=True)
    ]  # fmt: skip
    edfio.Edf(signals).write(tmp_path / "w.edf")
    assert same(read((tmp_path / "w.edf").read_bytes(), "a.edf"), STRIP, LEADS)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kind": "EDF+D", "gap": 2.0}, "discontinuous"),
        ({"unit": ""}, "bad-gain"),
        ({"unit": "mmHg"}, "unknown-unit"),
        ({"records": 7}, "truncated"),
        ({"records": -1}, "truncated"),
    ],
)
def test_edf_with_a_gap_or_without_a_unit_is_refused(change: dict[str, object], code: str, read: Callable[..., Signal]) -> None:
    with pytest.raises(BadRecord) as refused:
        read(edf(STRIP, LEADS, **change), "a.edf")  # type: ignore[arg-type]
    assert refused.value.code == code


def test_ishne_gives_the_samples_and_a_lead_that_was_off_as_missing(read: Callable[..., Signal]) -> None:
    assert same(read(ishne(STRIP, LEADS), "a.ecg"), STRIP, LEADS)
    off = STRIP.copy()
    off[3, 10:14] = -(2**15)
    assert np.isnan(read(ishne(off, LEADS), "a.ecg").millivolts).nonzero()[1].tolist() == [10, 11, 12, 13]
    broken = bytearray(ishne(STRIP, LEADS))
    broken[200] ^= 1
    for content, code in (
        (bytes(broken), "checksum-mismatch"),
        (ishne(STRIP, LEADS)[:-3], "truncated"),
        (ishne(STRIP, LEADS, step_nv=0), "bad-gain"),
    ):
        with pytest.raises(BadRecord) as refused:
            read(content, "a.ecg")
        assert refused.value.code == code


@pytest.mark.parametrize("big", [True, False])
@pytest.mark.parametrize("block", [None, 500])
def test_mfer_of_any_byte_order_and_blocks_gives_the_samples(big: bool, block: int | None, read: Callable[..., Signal]) -> None:
    assert same(read(mfer(STRIP, LEADS, big=big, block=block), "a.mwf"), STRIP, LEADS)


def test_mfer_without_interval_or_gain_is_refused_whatever_the_standard_would_assume(read: Callable[..., Signal]) -> None:
    cut = bytearray(mfer(STRIP, LEADS))
    at = cut.rindex(b"\x1e\x84")
    cut[at + 2 : at + 6] = (len(STRIP[0]) * 24 - 30).to_bytes(4, "big")
    for content, code in (
        (mfer(STRIP, LEADS, interval_us=None), "bad-rate"),
        (mfer(STRIP, LEADS, gain=False), "bad-gain"),
        (bytes(cut[: at + 6 + len(STRIP[0]) * 24 - 30]), "truncated"),
    ):
        with pytest.raises(BadRecord) as refused:
            read(content, "a.mwf")
        assert refused.value.code == code


# --------------------------------------------------------------------------------------------------------- CSV and NPY


def test_csv_states_leads_units_and_times_in_its_header(tmp_path: Path) -> None:
    strip = rows(STRIP, EIGHT) * 5.0
    time = np.arange(strip.shape[1]) / 500
    path = tmp_path / "a.csv"
    for sign, head, factor in ((",", "time (s)", 1.0), (";", "time (ms)", 1000.0), ("\t", "seconds", 1.0)):
        lines = [sign.join([head, *(f"{lead} (uV)" for lead in EIGHT)])]
        lines += [sign.join(f"{value:g}" for value in (t * factor, *row)) for t, row in zip(time, strip.T, strict=True)]
        text = "# exported\n" + "\n".join(lines)
        path.write_text(text.replace(".", ",") if sign == ";" else text)
        signal = read_csv(path, Stated()).signal
        assert signal.rate_hz == 500
        assert signal.leads == EIGHT
        assert np.allclose(signal.millivolts, strip / 1000, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "stated", "code"),
    [
        ("I,II\n1,2\n3,4\n", Stated(unit="mV"), "bad-rate"),
        ("I,II\n1,2\n3,4\n", Stated(rate_hz=500), "unknown-unit"),
        ("I,II\n1,2\n3\n", Stated(500, "mV"), "truncated"),
        ("I,II\n1,2\nx,4\n", Stated(500, "mV"), "unreadable-samples"),
        ("time (s),I\n0,1\n0.002,1\n0.1,1\n", Stated(unit="mV"), "bad-rate"),
        ("a,b\n1,2\n", Stated(500, "mV"), "no-known-lead"),
    ],
)
def test_csv_that_does_not_state_what_its_samples_mean_is_refused(text: str, stated: Stated, code: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(BadRecord) as refused:
        read_csv(tmp_path / "a.csv", stated)
    assert refused.value.code == code


def test_npy_is_read_either_way_by_what_the_options_state_and_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for lying in (STRIP * 5, (STRIP * 5.0).T):
        np.save(path, lying)
        signal = read_npy(path, Stated(500, "uV", LEADS)).signal
        assert np.allclose(signal.millivolts, STRIP * 0.005, atol=1e-6)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for stated, code in ((Stated(500, "uV", LEADS), "unreadable-samples"),):
        with pytest.raises(BadRecord) as refused:
            read_npy(path, stated)
        assert refused.value.code == code
    np.save(path, STRIP)
    for stated, code in (
        (Stated(500, "uV"), "no-known-lead"),
        (Stated(0, "uV", LEADS), "bad-rate"),
        (Stated(500, "", LEADS), "unknown-unit"),
        (Stated(500, "uV", LEADS[:7]), "wrong-shape"),
    ):
        with pytest.raises(BadRecord) as refused:
            read_npy(path, stated)
        assert refused.value.code == code


# ------------------------------------------------------------------------------------------------ real files, read twice


def real(name: str) -> Signal:
    return ECGFiles()._read(REAL / name).signal


@needs_files
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


@needs_files
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


@needs_files
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


@needs_files
def test_the_real_sierra_file_is_what_another_reader_makes_of_it() -> None:
    sierraecg = pytest.importorskip("sierraecg", reason="pip install 'melp-bench[test]'")
    signal = real("philips-sierra-1_03.xml")
    other = sierraecg.read_file(str(REAL / "philips-sierra-1_03.xml")).leads
    assert signal.leads == tuple(lead.label for lead in other) == LEADS
    assert np.allclose(signal.millivolts, np.array([lead.samples for lead in other]) * 5e-3, atol=1e-6)
