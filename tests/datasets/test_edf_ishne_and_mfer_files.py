"""EDF, ISHNE and MFER files to the last unit, made from their published descriptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from holter_and_monitor_records import edf, ishne, mfer
from vendor_files import EIGHT, heart, rows, same

from melp_bench.leads import LEADS
from melp_bench.records import BadRecord, Signal

pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")
STRIP = heart()


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
        ({"labels": ["Resp"] * 12}, "no-known-lead"),
        ({"records": 7}, "truncated"),
        ({"records": -1}, "truncated"),
    ],
)
def test_edf_with_a_gap_or_without_a_unit_is_refused(change: dict[str, object], code: str, read: Callable[..., Signal]) -> None:
    with pytest.raises(BadRecord) as refused:
        read(edf(STRIP, **{"labels": LEADS} | change), "a.edf")  # type: ignore[arg-type]
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
