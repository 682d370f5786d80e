"""Twelve-lead records in WFDB files, read without trusting a byte of them.

Format: https://physionet.org/physiotools/wag/signal-5.htm. Shapes: L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench import LEADS, BadRecord, Signal
from melp_bench.lead_names import known_lead
from melp_plugins.datasets.wfdb_header import Header, Line, comments, read_header
from melp_plugins.datasets.wfdb_samples import FORMATS, digital_samples, fewest_bytes, known_format

__all__ = ["comments", "native_files", "read_wfdb"]

_MILLIVOLT = {"mv": 1.0, "nv": 1e-6, "uv": 1e-3, "\u03bcv": 1e-3, "v": 1e3}  # case-folded, which makes a mu of the micro sign
_MOST_PER_FRAME = 64
_INVALID = {"16": -(2**15), "24": -(2**23), "32": -(2**31), "61": -(2**15), "80": -128, "160": -(2**15)} | {
    "212": -2048,
    "310": -512,
    "311": -512,
    "508": -128,
    "516": -(2**15),
    "524": -(2**23),
}
"""The value that stands for a missing sample."""


def native_files(source: Path, path: str) -> Iterator[str]:
    """Yield the names, below `source`, of the files of the record whose header is `source/path.hea`: it, and those it names."""
    folder = PurePosixPath(path).parent
    segments = yield from _named_files(source, path)
    for name, _ in segments:
        if _is_plain(name):
            yield from _named_files(source, (folder / name).as_posix())


def _named_files(source: Path, path: str) -> Generator[str, None, tuple[tuple[str, int], ...]]:
    """Yield a header and the signal files that it names, and return the segments that it names."""
    yield f"{path}.hea"
    try:
        header = read_header(source / f"{path}.hea")
    except (BadRecord, OSError, ValueError):
        return ()
    for name in dict.fromkeys(line.file for line in header.lines):
        if _is_plain(name):
            yield (PurePosixPath(path).parent / name).as_posix()
    return header.segments


def read_wfdb(
    source: Path,
    path: str,
    *,
    checksums: bool = True,
    step: float | None = None,
    leads: Collection[str] = (),
    part: range | None = None,
) -> Signal:
    """Return the record whose header is `source/path.hea`: millivolts, its own leads and order, NaN where a sample is missing.

    Channels that are no standard lead, nor one of `leads` by the header's name, are left out where they cannot be read: a file
    that is missing, another unit. `step` is the millivolts of one unit of a source whose headers' gains and zeros are known
    to be wrong. A record of several segments with the same leads is joined; a gap between them is missing samples. `part` is
    the frames that are read, of a record of one segment; checksums are of the whole, and not compared then.

    Raises:
        BadRecord: a file is missing, empty or too short, the header cannot be read or names a file elsewhere, or (with
            `checksums`) the samples are not those that were written.
    """
    header = read_header(source / f"{path}.hea")
    if header.segments and part is not None:
        raise BadRecord("several-layouts", f"{path!r} joins several records; a part is read of one")
    if header.segments:
        return _joined(source, PurePosixPath(path).parent, header, checksums=checksums, step=step, leads=leads)
    folder = (source / path).parent
    rows = _usable_rows(folder, header, leads)
    lines = [header.lines[row] for row in rows]
    rate_hz = header.rate_hz * _per_frame(lines)
    frames = range(header.num_samples) if part is None else part
    if not 0 <= frames.start < frames.stop <= header.num_samples:
        raise BadRecord("missing-samples", f"the record has {header.num_samples} samples, not {frames.start} to {frames.stop}")
    digital = digital_samples(source / path, header, rows, frames)  # (L, T)
    flags = []
    if checksums and part is None and (wrong := _wrong_sum(digital, lines)):
        if not header.states_no_checksum:
            raise BadRecord("checksum-mismatch", f"lead {wrong!r}: the samples are not those the header was made of")
        flags.append("checksum-not-stated")
    if len(lines) < min(len(header.lines), len(LEADS)):
        left = [line.name for row, line in enumerate(header.lines) if row not in rows]
        flags.append(f"unread-channels: {', '.join(repr(name[:20]) for name in left[:16])}")
    steps = np.array([_step(line) if step is None else step for line in lines])
    baseline = np.array([line.baseline if step is None else 0 for line in lines], dtype=np.float64)
    millivolts = (digital - baseline[:, None]) * steps[:, None]
    invalid = np.array([_INVALID.get(line.format, np.iinfo(np.int64).min) for line in lines])
    missing = digital == invalid[:, None]
    if missing.any():
        millivolts[missing] = np.nan
    for row, line in enumerate(lines):
        if line.skew:  # its samples come so many frames later in the file than those of the others
            late = min(line.skew * line.per_frame, millivolts.shape[1])
            millivolts[row] = np.concatenate([millivolts[row, late:], np.full(late, np.nan)])
    names = tuple(line.name for line in lines)
    return Signal(millivolts.astype(np.float32), rate_hz, names, tuple(steps.tolist()), quality_flags=tuple(flags))


def _joined(
    source: Path, folder: PurePosixPath, header: Header, *, checksums: bool, step: float | None, leads: Collection[str]
) -> Signal:
    """Return the segments of a record one after the other."""
    parts: list[Signal | int] = []
    for name, length in header.segments:
        if name == "~":
            parts.append(length)
            continue
        if not _is_plain(name):
            raise BadRecord("unsafe-path", f"the header names the segment {name[:100]!r}; wanted a plain name")
        path = (folder / name).as_posix()
        if read_header(source / f"{path}.hea").segments:
            raise BadRecord("unreadable-header", f"the segment {name!r} has segments itself")
        part = read_wfdb(source, path, checksums=checksums, step=step, leads=leads)
        if part.rate_hz != header.rate_hz or part.millivolts.shape[1] != length:
            raise BadRecord("unreadable-header", f"the segment {name!r} has not the rate and length that the record says")
        parts.append(part)
    signals = [part for part in parts if isinstance(part, Signal)]
    if not signals:
        raise BadRecord("missing-samples", "all its segments are gaps")
    if any(part.leads != signals[0].leads for part in signals):
        raise BadRecord("several-layouts", "its segments have different leads; wanted the same in all")
    gaps = [part if isinstance(part, Signal) else None for part in parts]
    height = len(signals[0].leads)
    blocks = [
        np.full((height, length), np.nan, dtype=np.float32) if part is None else part.millivolts
        for part, (_, length) in zip(gaps, header.segments, strict=True)
    ]
    steps = signals[0].steps if all(part.steps == signals[0].steps for part in signals) else None
    flags = tuple(dict.fromkeys(flag for part in signals for flag in part.quality_flags))
    return Signal(np.concatenate(blocks, axis=1), header.rate_hz, signals[0].leads, steps, quality_flags=flags)


def _usable_rows(folder: Path, header: Header, leads: Collection[str]) -> list[int]:
    """Return the rows of the channels that are read: all that are wanted, others where nothing stands against them."""
    wanted = [known_lead(line.name) is not None or line.name in leads for line in header.lines]
    if not any(wanted):
        wanted = [True] * len(wanted)
    frames = _per_frame([line for line, take in zip(header.lines, wanted, strict=True) if take])
    problems = {name: _problem(folder, header, name) for name in dict.fromkeys(line.file for line in header.lines)}
    rows = []
    for row, line in enumerate(header.lines):
        problem = problems[line.file]
        if wanted[row] and problem is not None:
            raise problem
        if wanted[row] or (problem is None and line.unit.casefold() in _MILLIVOLT and line.per_frame == frames):
            rows.append(row)
    return rows


def _per_frame(lines: Sequence[Line]) -> int:
    """Return the samples per frame of leads that all have as many."""
    found = sorted({line.per_frame for line in lines})
    if len(found) > 1 or not 1 <= found[0] <= _MOST_PER_FRAME:
        raise BadRecord(
            "unsupported-format", f"leads of {', '.join(map(str, found))} samples per frame; wanted one number, for all"
        )
    return found[0]


def _problem(folder: Path, header: Header, name: str) -> BadRecord | None:
    """Return what stands against reading a signal file: where it lies, its format, its length; None if nothing does."""
    if not _is_plain(name):
        return BadRecord("unsafe-path", f"the header names the signal file {name[:100]!r}; wanted a plain file name")
    path = folder / name
    if not path.is_file():
        return BadRecord("missing-file", name)
    size = path.stat().st_size
    if size == 0:
        return BadRecord("zero-byte-file", name)
    lines = [line for line in header.lines if line.file == name]
    formats = sorted({line.format for line in lines})
    if len(formats) != 1 or not known_format(formats[0]):
        return BadRecord(
            "unsupported-format", f"{name!r} is of format {', '.join(formats)}; wanted one of {', '.join(FORMATS)}"
        )
    wanted = fewest_bytes(lines, header.num_samples)
    if size < wanted:
        return BadRecord("truncated", f"{name!r} has {size} bytes; its header promises {wanted}")
    return None


def _wrong_sum(digital: NDArray[Any], lines: Sequence[Line]) -> str:
    """Return the first lead whose samples (L, T) have not the sum modulo 65536 that the header says, "" if all have."""
    for line, total in zip(lines, digital.sum(axis=1, dtype=np.int64).tolist(), strict=True):
        if line.checksum is not None and (total - line.checksum) % 65536:
            return line.name or "without a name"
    return ""


def _is_plain(name: str) -> bool:
    return PurePosixPath(name).name == name and not set(name) & {"\\", "\0"} and name not in (".", "..", "-", "~")


def _step(line: Line) -> float:
    """Return the millivolts of one unit of the converter."""
    if line.unit.casefold() not in _MILLIVOLT:
        raise BadRecord("unknown-unit", f"lead {line.name!r} is in {line.unit[:20]!r}; wanted mV, uV, nV or V")
    return _MILLIVOLT[line.unit.casefold()] / line.gain
