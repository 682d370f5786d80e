"""Tracings in HDF5 files as CODE publishes them: a dataset `tracings` (N, T, 12), zero-padded at both ends.

Read without trusting the file (see `hdf5_files`), and no row larger than a record can be. Unit and lead order differ between
releases and their documentation contradicts itself, so both are measured. Shapes: N records, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_bench.lead_identity import identity_error
from melp_plugins.datasets.hdf5_files import opened, own_dataset

RATE_HZ = 400.0
UNITS = {"V": 1000.0, "mV": 1.0, "1e-4V": 0.1, "uV": 0.001}
"""Millivolts of one unit."""
TYPICAL_MILLIVOLT = 1.5
"""Median over records of the median lead's span (0.1 to 99.9 %). In millivolts it is 1 to 2 for adults at rest; the units are
factors of ten and more apart, so the unit that brings the span nearest to it, as a ratio, is the file's."""
ORDERS: tuple[tuple[str, ...], ...] = (mb.LEADS, ("I", "II", "III", "aVL", "aVF", "aVR", *mb.LEADS[6:]))
"""The orders that the releases' documentation names."""
_SAMPLE = 64
_MAX_SAMPLES = 200_000
_ID_NAMES = ("exam_id", "id_exam")


def row_ids(path: Path) -> NDArray[np.int64] | None:
    """Return the exam of each row, None where the file names none.

    Raises:
        BadRecord: the file cannot be read.
    """
    with opened(path) as file:
        names = [name for name in _ID_NAMES if name in file]
        if not names:
            return None
        ids = own_dataset(file, names[0])
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise mb.BadRecord(
                "unreadable-samples", f"{path.name!r}: {names[0]} is {ids.dtype} of {ids.shape}; wanted integers"
            )
        return np.asarray(ids[:], dtype=np.int64)


def num_rows(path: Path) -> int:
    """Return how many tracings a file holds.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with opened(path) as file:
            return int(_tracings(file, path).shape[0])
    except mb.BadRecord as error:
        raise mb.UserError(f"cannot count the tracings of {str(path)!r}: {error}; fetch the file again") from error


def read_tracing(path: Path, row: int, *, unit: str = "auto") -> mb.Signal:
    """Return a row as a signal: padding stripped, millivolts by the file's unit, leads named in the file's order.

    Raises:
        BadRecord: the file cannot be read, has no such row, or the row is all padding.
    """
    with opened(path) as file:
        tracings = _tracings(file, path)
        if not 0 <= row < tracings.shape[0]:
            raise mb.BadRecord("missing-samples", f"{path.name!r} has {tracings.shape[0]} rows, no row {row}")
        samples = np.asarray(tracings[row], dtype=np.float32)  # (T, L)
    samples = stripped(samples)
    if not len(samples):
        raise mb.BadRecord("all-zero", f"row {row} of {path.name!r} is nothing but padding")
    stat = path.stat()
    measured_unit, order = _conventions(path, stat.st_mtime_ns, stat.st_size)
    scale = UNITS[measured_unit if unit == "auto" else unit]
    return mb.Signal(np.ascontiguousarray(samples.T * np.float32(scale)), RATE_HZ, order)


def stripped(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (T, L) without the samples at either end in which every lead is exactly zero."""
    (real,) = np.nonzero(samples.any(axis=1))
    return samples[real[0] : real[-1] + 1] if len(real) else samples[:0]


def unit_of(tracings: Sequence[NDArray[np.float32]]) -> str:
    """Return the unit (a key of `UNITS`) that makes the spans of these tracings (T, L) those of a human heart."""
    spans = [float(np.median(np.ptp(np.quantile(x, (0.001, 0.999), axis=0), axis=0))) for x in tracings if len(x)]
    spans = [span for span in spans if np.isfinite(span) and span > 0]
    if not spans:
        return "mV"
    typical = float(np.median(spans))
    return min(UNITS, key=lambda unit: abs(np.log(typical * UNITS[unit] / TYPICAL_MILLIVOLT)))


def order_of(tracings: Sequence[NDArray[np.float32]]) -> tuple[str, ...]:
    """Return that of `ORDERS` in which Goldberger's identities hold best, by the median over the tracings (T, L)."""
    misses = [
        float(np.median([identity_error(x.T.astype(np.float64), order) for x in tracings if len(x)] or [0.0]))
        for order in ORDERS
    ]
    return ORDERS[int(np.argmin(misses))]


@lru_cache(maxsize=64)
def _conventions(path: Path, _mtime: int, _size: int) -> tuple[str, tuple[str, ...]]:
    """Return unit and lead order of a file, measured on rows spread evenly over it."""
    with opened(path) as file:
        tracings = _tracings(file, path)
        rows = np.unique(np.linspace(0, tracings.shape[0] - 1, min(_SAMPLE, tracings.shape[0])).astype(int))
        sample = [stripped(np.asarray(tracings[int(row)], dtype=np.float32)) for row in rows]
    return unit_of(sample), order_of(sample)


def _tracings(file: Any, path: Path) -> Any:
    name = next((name for name in ("tracings", "signal") if name in file), None)
    if name is None:
        raise mb.BadRecord("unreadable-samples", f"{path.name!r} has no dataset 'tracings'; it has {sorted(file)[:8]}")
    tracings = own_dataset(file, name)
    shape = tracings.shape
    if len(shape) != 3 or shape[2] != len(mb.LEADS) or shape[1] > _MAX_SAMPLES:
        raise mb.BadRecord("wrong-shape", f"{path.name!r}: {name} is {tracings.dtype} of {shape}; wanted (N, samples, 12)")
    return tracings
