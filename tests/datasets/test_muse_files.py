"""GE MUSE files to the last unit, made from their published description."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from vendor_files import EIGHT, heart, rows, same
from vendor_xml import muse, muse_waveform

from melp_bench.leads import LEADS
from melp_bench.records import BadRecord, Signal
from melp_bench.store.pack import pack

pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")
STRIP = heart()


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
    with pytest.raises(BadRecord, match="whether it is of rhythm"):
        read(muse(muse_waveform("Rhythm", strip, EIGHT)).replace(b"<WaveformType>Rhythm</WaveformType>", b""))
    with pytest.raises(BadRecord) as refused:
        pack(read(muse(muse_waveform("Rhythm", strip, ("I", "II", *["V1"] * 6)))))
    assert refused.value.code == "duplicate-lead"


def test_a_lead_that_was_off_is_flagged(read: Callable[..., Signal]) -> None:
    whole = muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT))
    signal = read(whole.replace(b"<LeadOff>FALSE", b"<LeadOff>TRUE", 1))
    assert signal.quality_flags == ("lead-off: I",)
