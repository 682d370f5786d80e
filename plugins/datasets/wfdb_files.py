"""Twelve-lead records in WFDB files, read without trusting a byte of them.

Format: https://physionet.org/physiotools/wag/signal-5.htm. Shapes: L leads, T samples.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench import BadRecord, Signal
from melp_plugins.datasets.wfdb_header import Header, comments, read_header

__all__ = ["comments", "read_wfdb"]

_BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5, "310": 4 / 3, "311": 4 / 3}
"""Bytes per sample of the uncompressed formats."""
_INVALID = {"16": -(2**15), "24": -(2**23), "32": -(2**31), "61": -(2**15), "80": -128, "160": -(2**15)} | {
    "212": -2048,
    "310": -512,
    "311": -512,
}
"""The value that stands for a missing sample."""
_MILLIVOLT = {"mv": 1.0, "nv": 1e-6, "uv": 1e-3, "\u03bcv": 1e-3, "v": 1e3}  # case-folded, which makes a mu of the micro sign


def read_wfdb(source: Path, path: str, *, checksums: bool = True, step: float | None = None) -> Signal:
    """Return the record whose header is `source/path.hea`: millivolts, its own leads and order, NaN where a sample is missing.

    `step` is the millivolts of one unit of a source whose headers' gains and zeros are known to be wrong.

    Raises:
        BadRecord: a file is missing, empty or too short, the header cannot be read or names a file elsewhere, or (with
            `checksums`) the samples are not those that were written.
    """
    header = read_header(source / f"{path}.hea")
    _check_files((source / path).parent, header)
    digital = _digital(source / path, header)  # (L, T)
    if checksums:
        _check_sums(digital, header)
    steps = np.array([_step(line.unit, line.gain, line.name) if step is None else step for line in header.lines])
    baseline = np.array([line.baseline if step is None else 0 for line in header.lines], dtype=np.float64)
    millivolts = (digital - baseline[:, None]) * steps[:, None]
    invalid = np.array([_INVALID.get(line.format, np.iinfo(np.int64).min) for line in header.lines])
    missing = digital == invalid[:, None]
    if missing.any():
        millivolts[missing] = np.nan
    leads = tuple(line.name for line in header.lines)
    return Signal(millivolts.astype(np.float32), header.rate_hz, leads, tuple(steps.tolist()))


def _check_sums(digital: NDArray[Any], header: Header) -> None:
    """Check that the samples (L, T) are those that the header was made of, as far as it says: their sums modulo 65536."""
    for line, total in zip(header.lines, digital.sum(axis=1, dtype=np.int64).tolist(), strict=True):
        if line.checksum is not None and (total - line.checksum) % 65536:
            raise BadRecord("checksum-mismatch", f"lead {line.name!r}: the samples are not those the header was made of")


def _check_files(folder: Path, header: Header) -> None:
    """Check that every signal file lies beside the header, has a known format and is as long as the header says."""
    for name in dict.fromkeys(line.file for line in header.lines):
        if PurePosixPath(name).name != name or "\\" in name or "\0" in name or name in (".", "..", "-", "~"):
            raise BadRecord("unsafe-path", f"the header names the signal file {name[:100]!r}; wanted a plain file name")
        _check_size(folder / name)
        lines = [line for line in header.lines if line.file == name]
        odd = [line for line in lines if line.per_frame > 1 or line.skew]
        formats = {line.format for line in lines}
        if odd or len(formats) != 1 or not formats <= set(_BYTES):
            raise BadRecord("unsupported-format", f"{name!r}: formats {sorted(formats)}, several samples per frame, or skew")
        wanted = math.ceil(len(lines) * header.num_samples * _BYTES[formats.pop()]) + lines[0].offset
        size = (folder / name).stat().st_size
        if size < wanted:
            raise BadRecord("truncated", f"{name!r} has {size} bytes; its header promises {wanted}")


def _check_size(path: Path) -> None:
    if not path.is_file():
        raise BadRecord("missing-file", path.name)
    if path.stat().st_size == 0:
        raise BadRecord("zero-byte-file", path.name)


def _digital(record: Path, header: Header) -> NDArray[Any]:
    """Return the samples as the converter gave them, (L, T)."""
    try:
        if all(line.format == "16" for line in header.lines):  # nearly all
            return _sixteen_bits(record.parent, header)
        import wfdb  # slow to import, and few need it

        read = wfdb.rdrecord(str(record.absolute()), physical=False, return_res=64)
        return np.ascontiguousarray(read.d_signal.T).reshape(len(header.lines), -1)
    except Exception as error:  # wfdb meets a broken file with any exception there is
        raise BadRecord("unreadable-samples", f"{record.name!r}: {type(error).__name__}: {error}") from error


def _sixteen_bits(folder: Path, header: Header) -> NDArray[np.int16]:
    """Return the samples of little-endian 16-bit files, in which the leads of a file take turns, (L, T)."""
    found: dict[int, NDArray[np.int16]] = {}
    for name in dict.fromkeys(line.file for line in header.lines):
        rows = [row for row, line in enumerate(header.lines) if line.file == name]
        offset = header.lines[rows[0]].offset
        frames = np.fromfile(folder / name, dtype="<i2", count=len(rows) * header.num_samples, offset=offset)
        found |= zip(rows, frames.reshape(-1, len(rows)).T, strict=True)
    return np.stack([found[row] for row in range(len(header.lines))])


def _step(unit: str, gain: float, name: str) -> float:
    """Return the millivolts of one unit of the converter."""
    if unit.casefold() not in _MILLIVOLT:
        raise BadRecord("unknown-unit", f"lead {name!r} is in {unit[:20]!r}; wanted mV, uV, nV or V")
    return _MILLIVOLT[unit.casefold()] / gain
