"""Samples in CSV and NumPy files, which state least: what they do not say, the dataset's options must.

CSV: a header of leads ("I", "V1 (uV)"), a row per sample, commas, semicolons or tabs; the rate from a column of times ("time
(s)", "ms") or from `rate`, the unit from the header or from `unit`. NPY: a plain array of samples and leads, whichever way it
lies; `rate`, `unit` and `order` (its leads) must be given. Nothing is unpickled.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_bench.lead_names import known_lead
from melp_plugins.datasets.ecg_file import ECGFile

UNITS = {"nv": 1e-6, "uv": 1e-3, "\u03bcv": 1e-3, "mv": 1.0, "v": 1e3}
"""Millivolts of a unit, case-folded, which makes a mu of the micro sign."""
_TIME = re.compile(r"(?:time|times|t|timestamp|elapsed)?[\s_]*[(\[]?\s*(s|sec|seconds|ms|milliseconds)\s*[)\]]?", re.IGNORECASE)
_BRACKETS = re.compile(r"[(\[]\s*([^)\]]+?)\s*[)\]]")
_MOST_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Stated:
    """What the dataset's options say of files that do not say it: hertz (0: nothing), unit ("": nothing), leads in order."""

    rate_hz: float = 0.0
    unit: str = ""
    order: tuple[str, ...] = ()


def read_csv(path: Path, stated: Stated, leads: Collection[str] = ()) -> ECGFile:
    """Return the samples of a CSV.

    Raises:
        BadRecord: a cell is no number, or rate or unit are stated nowhere.
    """
    header, cells = _table(path)
    names = [_BRACKETS.sub("", name).strip() or name for name in header]
    columns = [n for n, name in enumerate(header) if known_lead(name) is not None or names[n] in leads]
    if not columns:
        raise mb.BadRecord("no-known-lead", f"has the columns {', '.join(repr(name[:20]) for name in header[:16])}")
    times = [n for n, name in enumerate(header) if n not in columns and _TIME.fullmatch(name)]
    rate_hz = _rate(header[times[0]], cells[:, times[0]]) if times else stated.rate_hz
    scales = np.array([_scale(header[n], stated.unit) for n in columns])
    return _file(cells[:, columns].T * scales[:, None], rate_hz, [names[n] for n in columns])


def read_npy(path: Path, stated: Stated) -> ECGFile:
    """Return the samples of a NumPy file.

    Raises:
        BadRecord: it is no plain array of numbers with as many rows or columns as `order` has leads, or rate, unit or order are
            not stated.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise mb.BadRecord("too-large", f"{path.stat().st_size:,} bytes; wanted at most {_MOST_BYTES:,}")
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError, OverflowError) as error:
        raise mb.BadRecord("unreadable-samples", f"no plain array: {type(error).__name__}") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu":
        raise mb.BadRecord("wrong-shape", f"an array of {getattr(values, 'dtype', '?')} {np.shape(values)}; wanted two axes")
    if not stated.order:
        raise mb.BadRecord("no-known-lead", "a NumPy file does not say its leads; give --option order=I,II,V1,...")
    sides = [axis for axis in (0, 1) if values.shape[axis] == len(stated.order)]
    if len(sides) != 1:
        raise mb.BadRecord("wrong-shape", f"an array of {values.shape} for {len(stated.order)} leads")
    scale = _scale("", stated.unit)
    samples = values if sides == [0] else values.T
    return _file(samples.astype(np.float64) * scale, stated.rate_hz, stated.order)


def _file(millivolts: NDArray[np.float64], rate_hz: float, names: Sequence[str]) -> ECGFile:
    if not rate_hz:
        raise mb.BadRecord("bad-rate", "the file states no rate; give --option rate=500, or a column of times")
    return ECGFile(mb.Signal(millivolts.astype(np.float32), rate_hz, tuple(names)))


def _table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Return the header and the numbers below it (T, columns); an empty cell is a missing sample."""
    if path.stat().st_size > _MOST_BYTES:
        raise mb.BadRecord("too-large", f"{path.stat().st_size:,} bytes; wanted at most {_MOST_BYTES:,}")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:  # as spreadsheets write it, in which the micro sign of a unit is one byte
        text = content.decode("latin-1")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    sign = max(",;\t", key=(lines[0] if lines else "").count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=sign)]
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise mb.BadRecord("truncated", "its rows have not all as many cells as the header")
    if sign != ",":  # where a comma may be the sign before decimals
        rows[1:] = [[cell.replace(",", ".") for cell in row] for row in rows[1:]]
    try:
        return rows[0], np.array([[float(cell or "nan") for cell in row] for row in rows[1:]])
    except ValueError as error:
        raise mb.BadRecord("unreadable-samples", "a cell is no number") from error


def _rate(name: str, times: NDArray[np.float64]) -> float:
    """Return hertz from a column of times, which must be evenly spaced."""
    steps = np.diff(times)
    form = _TIME.fullmatch(name)
    second = 1000.0 if form and form[1].casefold() in ("ms", "milliseconds") else 1.0
    step = float(np.median(steps)) if len(steps) else math.nan
    if not step > 0 or not np.abs(steps - step).max() <= 0.51 * step or abs(times[-1] - times[0] - step * len(steps)) > step:
        raise mb.BadRecord("bad-rate", f"the times in {name[:20]!r} are not evenly spaced")
    rate_hz = second * len(steps) / float(times[-1] - times[0])  # of all steps, for times may be rounded
    return round(rate_hz) if abs(rate_hz - round(rate_hz)) < 1e-3 * rate_hz else rate_hz


def _scale(name: str, unit: str) -> float:
    """Return millivolts of one unit of a column."""
    inner = [text for text in _BRACKETS.findall(name) if text.casefold() in UNITS]
    given = inner[0] if inner else unit
    if not given:
        raise mb.BadRecord("unknown-unit", "the file states no unit; give --option unit=mV, or V1 (mV) in its header")
    return UNITS[given.casefold()]
