"""WFDB headers, read strictly: what a header does not state is not made up, and what it states must be readable.

Format: https://physionet.org/physiotools/wag/header-5.htm. A missing rate, length or gain and a gain of 0 ("uncalibrated") are
refused, where the format's own defaults, 250 Hz and 200 units per millivolt, would turn a damaged header into wrong numbers.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from melp_bench import BadRecord

_MAX_BYTES = 1_000_000
_MAX_SIGNALS = 256
_MAX_DIGITS = 18
_FORMAT = re.compile(r"(?P<format>\d{1,4})(?:x(?P<frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d+))?")
_GAIN = re.compile(r"(?P<gain>[^\s(/]+)(?:\((?P<baseline>-?\d+)\))?(?:/(?P<unit>[^\s/]+))?")
_RATE = re.compile(r"(?P<rate>[^\s/]+)(?:/[^\s/]+)?")
_INTEGER = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class Line:
    """What a header says of one signal."""

    file: str
    format: str
    per_frame: int
    skew: int
    offset: int  # bytes before the first sample
    gain: float  # units of the converter per physical unit
    baseline: int  # the value that is zero
    unit: str
    first: int | None  # sample
    checksum: int | None
    name: str


@dataclass(frozen=True)
class Header:
    """What a header says of a record."""

    rate_hz: float
    num_samples: int
    lines: tuple[Line, ...]
    segments: tuple[tuple[str, int], ...] = ()  # record and samples of each where it joins several, which then have the lines

    @property
    def states_no_checksum(self) -> bool:
        """True if every line says first value 0 and checksum 0, as a tool writes them that computes neither."""
        return all(line.first == 0 and line.checksum == 0 for line in self.lines)


def read_header(path: Path) -> Header:
    """Return a header.

    Raises:
        BadRecord: it is missing, too large, or a line of it is not what the format says.
    """
    lines = [line.strip() for line in _text(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    first = lines[0].split() if lines else []
    joined = re.fullmatch(r"[^/]+/(\d{1,4})", first[0]) if first else None
    if len(first) < 2 or ("/" in first[0] and not joined) or not _INTEGER.fullmatch(first[1]):
        raise BadRecord("unreadable-header", f"{path.name!r} begins with {_shown(lines)}; wanted name, signals and rate")
    rate_hz = _rate(first[2] if len(first) > 2 else "")
    count, samples = _integer(first[1]), _integer(first[3]) if len(first) > 3 else 0
    if samples < 1:
        raise BadRecord("unreadable-header", f"{path.name!r} states no number of samples: {_shown(lines)}")
    if joined:
        return Header(rate_hz, samples, (), _segments(lines, _integer(joined[1]), samples))
    if not 0 < count <= _MAX_SIGNALS or len(lines) != 1 + count:
        raise BadRecord("unreadable-header", f"{path.name!r} has {len(lines) - 1} signal lines after {_shown(lines)}")
    return Header(rate_hz, samples, tuple(_line(line) for line in lines[1:]))


def _segments(lines: list[str], count: int, samples: int) -> tuple[tuple[str, int], ...]:
    """Return record and samples of each segment, "~" for a gap."""
    parts = [line.split() for line in lines[1:]]
    if not parts or len(parts) != count or any(len(part) != 2 for part in parts):
        raise BadRecord(
            "unreadable-header", f"{len(parts)} lines of segments after {_shown(lines)}; wanted name and samples each"
        )
    segments = tuple((name, _integer(length)) for name, length in parts)
    if segments[0][1] == 0:
        raise BadRecord("several-layouts", f"{_shown(lines)} joins records of different leads; wanted the same in all")
    if any(length < 1 for _, length in segments) or sum(length for _, length in segments) != samples:
        raise BadRecord("unreadable-header", f"the segments' samples are not those of {_shown(lines)}")
    return segments


def comments(path: Path) -> list[str]:
    """Return the comment lines of a header, without `#`; none if it cannot be read."""
    try:
        return [line.lstrip("#").strip() for line in _text(path).splitlines() if line.startswith("#")]
    except (BadRecord, OSError):
        return []


def _text(path: Path) -> str:
    if not path.is_file():
        raise BadRecord("missing-file", path.name)
    size = path.stat().st_size
    if size == 0:
        raise BadRecord("zero-byte-file", path.name)
    if size > _MAX_BYTES:
        raise BadRecord("unreadable-header", f"{path.name!r} has more than {_MAX_BYTES} bytes")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # which every byte is in Latin-1, the micro sign of a unit among them
        return content.decode("latin-1")


def _line(text: str) -> Line:
    """Return a signal line: file, format, gain, resolution, zero, first value, checksum, block size, name."""
    cells = text.split(maxsplit=8)
    form = _FORMAT.fullmatch(cells[1]) if len(cells) > 1 else None
    numbers = cells[3:8]
    if form is None or not all(_INTEGER.fullmatch(cell) for cell in numbers):
        raise BadRecord("unreadable-header", f"signal line {text[:80]!r}; wanted file, format, gain and integers")
    if len(cells) < 3:
        raise BadRecord("bad-gain", f"signal line {text[:80]!r} states no gain: its amplitudes mean nothing")
    calibration = _GAIN.fullmatch(cells[2])
    gain = _number(calibration["gain"]) if calibration else math.nan
    if calibration is None or not (math.isfinite(gain) and gain > 0):
        raise BadRecord("bad-gain", f"signal line {text[:80]!r} has the gain {cells[2][:20]!r}; wanted a positive number")
    zero = _integer(numbers[1]) if len(numbers) > 1 else 0
    return Line(
        file=cells[0],
        format=form["format"],
        per_frame=_integer(form["frame"] or "1"),
        skew=_integer(form["skew"] or "0"),
        offset=_integer(form["offset"] or "0"),
        gain=gain,
        baseline=_integer(calibration["baseline"]) if calibration["baseline"] else zero,
        unit=calibration["unit"] or "mV",
        first=_integer(numbers[2]) if len(numbers) > 2 else None,
        checksum=_integer(numbers[3]) if len(numbers) > 3 else None,
        name=cells[8].strip() if len(cells) > 8 else "",
    )


def _rate(cell: str) -> float:
    match = _RATE.fullmatch(cell)
    rate_hz = _number(match["rate"]) if match else math.nan
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise BadRecord("bad-rate", f"the header states the rate {cell[:20]!r}; wanted a positive number of hertz")
    return rate_hz


def _number(cell: str) -> float:
    """Return a number as WFDB writes it; NaN for anything else."""
    return float(cell) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", cell, re.ASCII) else math.nan


def _integer(cell: str) -> int:
    if not re.fullmatch(rf"[+-]?\d{{1,{_MAX_DIGITS}}}", cell, re.ASCII):
        raise BadRecord("unreadable-header", f"{cell[:40]!r} in the header; wanted an integer")
    return int(cell)


def _shown(lines: list[str]) -> str:
    return repr(lines[0][:80]) if lines else "nothing"
