"""DICOM 12-lead ECG waveforms to the last unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_records import dicom, written
from vendor_files import heart, same

from melp_bench.leads import LEADS
from melp_bench.records import BadRecord, Signal

pydicom = pytest.importorskip("pydicom", reason="pip install 'melp-bench[vendor]'")
STRIP = heart()
BEAT = STRIP[:, :300]


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("implicit", [True, False])
def test_dicom_of_any_encoding_gives_the_samples(
    preamble: bool, implicit: bool, tmp_path: Path, read: Callable[..., Signal]
) -> None:
    content = written(dicom(STRIP), implicit=implicit, preamble=preamble)
    assert (content[128:132] == b"DICM") == preamble
    assert same(read(content, "a.dcm"), STRIP, LEADS)


@pytest.mark.parametrize("naming", ["scp", "mdc", "text", "meaning", "label"])
def test_dicom_names_leads_by_code_meaning_or_label(naming: str, tmp_path: Path, read: Callable[..., Signal]) -> None:
    assert same(read(written(dicom(STRIP, naming=naming)), "a.dcm"), STRIP, LEADS)


@pytest.mark.parametrize(("bits", "form"), [(8, "SB"), (8, "UB"), (16, "US"), (32, "SL")])
def test_dicom_samples_of_any_width_with_gain_and_zero(
    bits: int, form: str, tmp_path: Path, read: Callable[..., Signal]
) -> None:
    step, zero = 40.0, 60.0
    coarse = np.rint(STRIP * 5 / step).clip(-100, 100).astype(np.int64) + (100 if form in ("UB", "US") else 0)
    made = dicom(coarse, bits=bits, form=form, sensitivity="20", correction="2", baseline="60", rate="1000")
    signal = read(written(made), "a.dcm")
    assert signal.rate_hz == 1000
    assert np.allclose(signal.millivolts, (coarse * step + zero) / 1000, atol=1e-6)


def test_dicom_gives_the_strip_with_most_leads_and_not_the_median_beat(tmp_path: Path, read: Callable[..., Signal]) -> None:
    median = dicom(BEAT, label="MEDIAN BEAT")
    one = dicom(STRIP[1:2], ("II",), label="RHYTHM 2")
    assert same(read(written(dicom(STRIP, before=(median,))), "a.dcm"), STRIP, LEADS)
    both = read(written(dicom(STRIP, before=(median, one))), "a.dcm")
    assert both.quality_flags == ("other-waveforms",)
    assert same(both, STRIP, LEADS)
    with pytest.raises(BadRecord, match="only median beats"):
        read(written(median), "a.dcm")


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
        read(written(dicom(STRIP, **change)), "a.dcm")  # type: ignore[arg-type]
    assert refused.value.code == code


def test_dicom_cut_short_or_deflated_is_refused(tmp_path: Path, read: Callable[..., Signal]) -> None:
    short = dicom(STRIP)
    short.WaveformSequence[0].NumberOfWaveformSamples = STRIP.shape[1] + 1
    deflated = dicom(STRIP)
    deflated.file_meta = pydicom.dataset.FileMetaDataset()
    deflated.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    deflated.save_as(tmp_path / "z", enforce_file_format=True)
    for content, code in ((written(short), "truncated"), ((tmp_path / "z").read_bytes(), "unsupported-format")):
        with pytest.raises(BadRecord) as refused:
            read(content, "a.dcm")
        assert refused.value.code == code


def test_dicom_padding_is_missing_samples(read: Callable[..., Signal]) -> None:
    padded = STRIP.copy()
    padded[4, 7:9] = -(2**15)
    made = dicom(padded)
    made.WaveformSequence[0].WaveformPaddingValue = (-(2**15)).to_bytes(2, "little", signed=True)
    found = read(written(made), "a.dcm").millivolts
    assert np.argwhere(np.isnan(found)).tolist() == [[4, 7], [4, 8]]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("NumberOfWaveformChannels", 0, "missing-samples"),
        ("WaveformBitsAllocated", 24, "unsupported-format"),
        ("ChannelDefinitionSequence", [], "wrong-shape"),
    ],
)
def test_dicom_whose_group_is_not_what_it_states_is_refused(
    field: str, value: object, code: str, read: Callable[..., Signal]
) -> None:
    made = dicom(STRIP)
    setattr(made.WaveformSequence[0], field, value)
    with pytest.raises(BadRecord) as refused:
        read(written(made), "a.dcm")
    assert refused.value.code == code
