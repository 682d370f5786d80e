"""Damaged files of carts: each is as it was or refused under a reason, and none is another record where the format can tell.

SCP-ECG and MUSE have checksums: there no sample may differ. The others have none for their samples, and no format has one for
MUSE's own gains, rates and names: what differs in these is not claimed. A file cut short is refused whatever its format.
"""

from __future__ import annotations

import re
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from dicom_records import dicom_of
from scp_ecg_records import scp
from vendor_files import EIGHT, Person, heart, rows
from vendor_xml import aecg, aecg_series, muse, muse_waveform, sierra

from melp_bench.errors import UserError
from melp_bench.leads import LEADS
from melp_bench.records import BadRecord
from melp_bench.store.pack import Packed
from melp_bench.store.shard import read_record
from melp_plugins.datasets.ecg_files import ECGFiles

pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")
pytest.importorskip("pydicom", reason="pip install 'melp-bench[vendor]'")

CASES = {"muse.xml": 800, "aecg.xml": 600, "sierra.xml": 600, "dicom.dcm": 2000, "scp.scp": 2000}
CHECKED = ("muse.xml", "scp.scp")
CODES = {
    "all-zero", "bad-gain", "bad-rate", "checksum-mismatch", "duplicate-lead", "flat", "implausible-amplitude",
    "infinite-samples", "missing-samples", "no-known-lead", "several-rates", "too-short", "truncated", "unknown-unit",
    "unreadable-file",
    "unreadable-samples", "unsupported-format", "wrong-shape", "zero-byte-file",
}  # fmt: skip
SLOWEST_SECONDS = 20.0
STATED = rb"<(?:LeadAmplitudeUnits(?:PerBit)?|SampleBase|SampleExponent|LeadID|LeadSampleSize|WaveformType)>[^<]*<"
"""What a MUSE file says once and no checksum covers."""
STRIP = heart(seconds=1.4)


def whole(name: str, folder: Path) -> bytes:
    person = Person()
    return {
        "muse.xml": lambda: muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT), person=person, statements=["Sinus"]),
        "aecg.xml": lambda: aecg(aecg_series("RHYTHM", STRIP, LEADS), person=person),
        "sierra.xml": lambda: sierra(STRIP, person=person),
        "dicom.dcm": lambda: dicom_of(person, STRIP),
        "scp.scp": lambda: scp(STRIP, person=person),
    }[name]()


def damaged(content: bytes, random: np.random.Generator) -> tuple[str, bytes, range]:
    """Return what was done, the content, and the bytes of the original that were touched."""
    kind = random.choice(["flip", "cut", "drop", "insert", "zero", "digit"])
    reach = len(content) if random.random() < 0.5 else min(len(content), 4096)
    at = int(random.integers(reach))
    size = int(random.choice([1, 2, 4, 12, 24, 100]))
    broken = bytearray(content)
    if kind == "flip":
        broken[at] ^= int(random.integers(1, 256))
        return kind, bytes(broken), range(at, at + 1)
    if kind == "cut":
        return kind, content[:at], range(at, len(content))
    if kind == "drop":
        del broken[at : at + size]
    elif kind == "insert":
        broken[at:at] = random.bytes(size)
        size = 1
    elif kind == "zero":
        broken[at : at + size] = bytes(len(broken[at : at + size]))
    else:  # a number becomes another: lengths, counts and offsets
        numbers = list(re.finditer(rb"\d+", content[:reach])) or [re.match(rb"", content)]
        found = numbers[int(random.integers(len(numbers)))]
        assert found is not None
        other = random.choice([b"0", b"-1", b"99999999999", b"1e400", b"nan", b"7", b"", b"2147483648"])
        broken[found.start() : found.end()] = bytes(other)
        return kind, bytes(broken), range(found.start(), found.end() + 1)
    return kind, bytes(broken), range(at, at + size)


def outcome(dataset: ECGFiles, folder: Path) -> Packed | str:
    try:
        infos = list(dataset.infos(folder))
        return read_record(dataset, folder, infos[0]) if infos else "refused"
    except UserError:
        return "refused"
    except BadRecord as reason:
        if reason.code not in CODES:  # "unexpected" among them: what nobody foresaw has no place here
            raise
        return reason.code


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_damaged_vendor_files_are_refused_or_read_as_they_were(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    content = whole(name, tmp_path)
    folder = tmp_path / "s"
    folder.mkdir()
    path, dataset, random = folder / name, ECGFiles(), np.random.default_rng(len(name))
    path.write_bytes(content)
    before = outcome(dataset, folder)
    assert isinstance(before, Packed)
    uncovered = [range(*found.span()) for found in re.finditer(STATED, content)] if name == "muse.xml" else []
    around = sorted(tmp_path.iterdir())
    refused = 0
    for case in range(CASES[name]):
        kind, broken, touched = damaged(content, random)
        path.write_bytes(broken)
        begun = time.process_time()
        after = outcome(dataset, folder)
        assert time.process_time() - begun < SLOWEST_SECONDS
        if isinstance(after, str):
            refused += 1
            continue
        same = np.array_equal(after.values, before.values) and np.array_equal(after.gains, before.gains)
        same = same and (after.rate_hz, after.leads) == (before.rate_hz, before.leads)
        stated = any(touched.start < one.stop and one.start < touched.stop for one in uncovered)
        if kind == "cut" or (name in CHECKED and not stated):
            assert same, f"case {case}: {kind} at {touched}: another record, silently"
    assert refused > CASES[name] / 10, "damage was done"
    assert sorted(folder.iterdir()) == [path]
    assert sorted(tmp_path.iterdir()) == around, "no file anywhere else"


def test_a_length_that_promises_more_than_there_is_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    content = whole("scp.scp", tmp_path)
    dataset = ECGFiles()
    for at in range(2, 40):
        folder = tmp_path / f"s{at}"
        folder.mkdir()
        (folder / "a.scp").write_bytes(content[:at] + b"\xff\xff\xff\x7f" + content[at + 4 :])
        tracemalloc.start()
        assert isinstance(outcome(dataset, folder), str)
        assert tracemalloc.get_traced_memory()[1] < 50e6
        tracemalloc.stop()
