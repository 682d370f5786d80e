"""Samples in CSV and NPY: leads, unit and rate are stated in the file or by options, or the file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from vendor_files import EIGHT, heart, rows

from melp_bench.leads import LEADS
from melp_bench.records import BadRecord
from melp_plugins.datasets.sample_files import Stated, read_csv, read_npy

STRIP = heart()


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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_microvolts_in_the_encoding_of_a_spreadsheet_are_microvolts(encoding: str, tmp_path: Path) -> None:
    """In Latin-1, as a spreadsheet saves a table, the file was refused."""
    (tmp_path / "a.csv").write_bytes("seconds;I (µV);V1 (µV)\n0;1;2\n0,5;-3;4,5\n".encode(encoding))
    signal = read_csv(tmp_path / "a.csv", Stated()).signal
    assert (signal.rate_hz, signal.leads) == (2, ("I", "V1"))
    assert np.allclose(signal.millivolts, [[0.001, -0.003], [0.002, 0.0045]])


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
    np.save(path, STRIP[None])
    with pytest.raises(BadRecord, match="wanted two axes"):
        read_npy(path, Stated(500, "uV", LEADS))
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
