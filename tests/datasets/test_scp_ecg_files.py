"""SCP-ECG files to the last unit, made from their published description."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scp_ecg_records import scp
from vendor_files import heart, same

from melp_bench.leads import LEADS
from melp_bench.records import BadRecord, Signal

pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")
STRIP = heart()


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
    beat = (STRIP[:, 400:700] // 2).astype(np.int16)
    with pytest.raises(BadRecord, match="bimodal") as refused:
        read(scp(STRIP, beat=beat, fiducials=(300,), fiducial=120, decimated=4), "a.scp")
    assert refused.value.code == "unsupported-format"
    unstated = read(scp(STRIP, crc=False), "a.scp")
    assert unstated.quality_flags == ("checksum-not-stated",)
    assert same(unstated, STRIP, LEADS)
