"""Twelve-lead records in WFDB files, read without trusting a byte of them.

Format: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm. Shapes: L leads, T samples.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import wfdb
from numpy.typing import NDArray

from melp_bench import BadRecord, Signal

_BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5, "310": 4 / 3, "311": 4 / 3}
"""Bytes per sample of the uncompressed formats."""
_INVALID = {"16": -(2**15), "24": -(2**23), "32": -(2**31), "61": -(2**15), "80": -128, "160": -(2**15)} | {
    "212": -2048,
    "310": -512,
    "311": -512,
}
"""The value that stands for a missing sample."""
_MILLIVOLT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "v": 1e3}
_MAX_HEADER = 1_000_000
_MAX_SIGNALS = 256


def read_wfdb(source: Path, path: str, *, checksums: bool = True) -> Signal:
    """Return the record whose header is `source/path.hea`: millivolts, its own leads and order, NaN where a sample is missing.

    Raises:
        BadRecord: a file is missing, empty or too short, the header cannot be read or names a file elsewhere, or (with
            `checksums`) the samples are not those that were written.
    """
    header = _header(source / f"{path}.hea")
    file = _checked_file((source / path).parent, header)
    digital = _digital(source / path, file, header)  # (T, L)
    expected = header.checksum or []
    for lead, (samples, wanted) in enumerate(zip(digital.T, expected, strict=False)):
        if checksums and wanted is not None and (int(samples.sum(dtype=np.int64)) - wanted) % 65536:
            raise BadRecord(
                "checksum-mismatch", f"lead {header.sig_name[lead]!r}: the samples are not those the header was made of"
            )
    steps = np.array([_step(header, lead) for lead in range(header.n_sig)])
    baseline = np.array([zero or 0 for zero in header.baseline], dtype=np.float64)
    millivolts = (digital - baseline) * steps
    invalid = np.array([_INVALID.get(str(fmt), np.iinfo(np.int64).min) for fmt in header.fmt])
    millivolts[digital == invalid] = np.nan
    leads = tuple(str(name or "") for name in header.sig_name)
    return Signal(np.ascontiguousarray(millivolts.T, dtype=np.float32), float(header.fs), leads, tuple(steps.tolist()))


def comments(header: Path) -> list[str]:
    """Return the comment lines of a header, without `#`; none if it cannot be read."""
    try:
        if header.stat().st_size > _MAX_HEADER:
            return []
        lines = header.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line.lstrip("#").strip() for line in lines if line.startswith("#")]


def _header(path: Path) -> Any:
    _check_size(path)
    if path.stat().st_size > _MAX_HEADER:
        raise BadRecord("unreadable-header", f"{path.name!r} has more than {_MAX_HEADER} bytes")
    try:
        header = wfdb.rdheader(str(path.absolute().with_suffix("")))
    except Exception as error:  # wfdb meets a broken header with any exception there is
        raise BadRecord("unreadable-header", f"{path.name!r}: {type(error).__name__}: {error}") from error
    names = (header.sig_name, header.fmt, header.file_name, header.adc_gain, header.baseline) if _is_single(header) else ()
    if not names or any(column is None or len(column) != header.n_sig for column in names):
        raise BadRecord("unreadable-header", f"{path.name!r} does not describe each of its signals, or has several segments")
    return header


def _is_single(header: Any) -> bool:
    return isinstance(header, wfdb.Record) and 0 < (header.n_sig or 0) <= _MAX_SIGNALS and bool(header.fs)


def _checked_file(folder: Path, header: Any) -> Path:
    """Return the first signal file; every one has been checked to lie beside the header and to be long enough."""
    for name in dict.fromkeys(header.file_name):
        if not name or PurePosixPath(name).name != name or "\\" in name or name in (".", ".."):
            raise BadRecord("unsafe-path", f"the header names the signal file {str(name)[:100]!r}; wanted a plain file name")
        _check_size(folder / name)
        rows = [row for row, other in enumerate(header.file_name) if other == name]
        odd = [row for row in rows if (header.samps_per_frame[row] or 1) != 1 or header.skew[row]]
        formats = {str(header.fmt[row]) for row in rows}
        if odd or len(formats) != 1 or not formats <= set(_BYTES):
            raise BadRecord("unsupported-format", f"{name!r}: formats {sorted(formats)}, several samples per frame, or skew")
        wanted = math.ceil(len(rows) * (header.sig_len or 0) * _BYTES[formats.pop()]) + (header.byte_offset[rows[0]] or 0)
        size = (folder / name).stat().st_size
        if size < wanted:
            raise BadRecord("truncated", f"{name!r} has {size} bytes; its header promises {wanted}")
    return folder / str(header.file_name[0])


def _check_size(path: Path) -> None:
    if not path.is_file():
        raise BadRecord("missing-file", path.name)
    if path.stat().st_size == 0:
        raise BadRecord("zero-byte-file", path.name)


def _digital(record: Path, file: Path, header: Any) -> NDArray[Any]:
    """Return the samples as the converter gave them, (T, L)."""
    try:
        if set(header.fmt) == {"16"} and len(set(header.file_name)) == 1 and header.sig_len:  # nearly all: no second parsing
            count, offset = header.n_sig * header.sig_len, header.byte_offset[0] or 0
            return np.fromfile(file, dtype="<i2", count=count, offset=offset).reshape(-1, header.n_sig)
        read = wfdb.rdrecord(str(record.absolute()), physical=False, return_res=64)
    except Exception as error:  # as above
        raise BadRecord("unreadable-samples", f"{file.name!r}: {type(error).__name__}: {error}") from error
    return np.asarray(read.d_signal)


def _step(header: Any, lead: int) -> float:
    """Return the millivolts of one unit of the converter."""
    unit, gain = str(header.units[lead] or "mV"), float(header.adc_gain[lead])
    if unit.casefold() not in _MILLIVOLT:
        raise BadRecord("unknown-unit", f"lead {header.sig_name[lead]!r} is in {unit[:20]!r}; wanted mV, uV or V")
    if not (math.isfinite(gain) and gain > 0):
        raise BadRecord("bad-gain", f"lead {header.sig_name[lead]!r} has the gain {gain!r}; wanted a positive number")
    return _MILLIVOLT[unit.casefold()] / gain
