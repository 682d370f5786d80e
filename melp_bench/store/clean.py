"""Filters by the names NeuroKit2 gives them, for stores of cleaned records: `clean=METHOD` among a store's options.

NeuroKit2 itself wants a pandas of another age; these are its filters (neurokit2/ecg/ecg_clean.py and signal/signal_filter.py,
0.2.12) as scipy has them. Shapes: L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UserError
from melp_bench.records import BadRecord, Dataset
from melp_bench.registry import Entry, nearest
from melp_bench.store.pack import LIMIT, Packed, quantised

OPTION = "clean"
"""Every dataset has it: it is prepare's, and named among the options, in the folder's name and in the fingerprint."""
_BANDS: Mapping[str, tuple[float, float, int, Literal["bandpass", "bandstop"]]] = {
    "pantompkins1985": (5.0, 15.0, 1, "bandpass"),
    "hamilton2002": (8.0, 16.0, 1, "bandpass"),
    "elgendi2010": (8.0, 20.0, 2, "bandpass"),
    "engzeemod2012": (48.0, 52.0, 4, "bandstop"),
}
"""Edges in hertz, order and kind of a Butterworth filter that runs once over the record and starts at its mean."""
METHODS = ("neurokit", "biosppy", *_BANDS)
Array = NDArray[np.float64]


def configured(entry: Entry[Dataset], options: Mapping[str, Any]) -> tuple[Dataset, dict[str, Any]]:
    """Return a dataset and the options of its store: its own, completed with their defaults, and `clean` where it is given.

    Raises:
        UserError: there is no such option or method.
    """
    own = {name: value for name, value in options.items() if name != OPTION}
    method = options.get(OPTION, "none")
    if method not in (*METHODS, "none"):
        raise UserError(f"no cleaning named {method!r}{nearest(str(method), METHODS)} Known: none, {', '.join(METHODS)}")
    resolved = entry.resolve(own)
    return entry.build(**resolved), resolved if method == "none" else {**resolved, OPTION: method}


def cleaned(packed: Packed, method: str) -> Packed:
    """Return a packed record filtered by a method of `METHODS`; what was found of it before stays.

    Raises:
        BadRecord: it is too short, or its rate too low, for the filter.
    """
    x = packed.values * packed.gains.astype(np.float64)[:, None]
    try:
        y = _filtered(x, packed.rate_hz, method)
    except ValueError as error:
        found = f"{x.shape[1]} samples of {packed.rate_hz:g} Hz"
        raise BadRecord("not-cleaned", f"{method} cannot filter {found}: {error}") from error
    values, steps = quantised(y, np.abs(y).max(axis=1) / LIMIT)
    return replace(packed, values=values, gains=steps.astype(np.float32))


def _filtered(x: Array, rate_hz: float, method: str) -> Array:
    """Return (L, T) filtered."""
    from scipy import signal  # slow to import, and few clean

    if method == "neurokit":
        sections = signal.butter(5, 0.5, btype="highpass", output="sos", fs=rate_hz)
        width = int(rate_hz / 50) if rate_hz >= 100 else 2  # one period of the mains
        return np.asarray(signal.filtfilt(np.ones(width), [width], signal.sosfiltfilt(sections, x), method="pad"))
    if method == "biosppy":
        taps = signal.firwin(int(1.5 * rate_hz) | 1, [0.67, 45.0], pass_zero=False, fs=rate_hz)
        y = signal.filtfilt(taps, [1.0], x)
        return np.asarray(y - y.mean(axis=1, keepdims=True))
    low, high, order, kind = _BANDS[method]
    sections = signal.butter(order, [low, high], btype=kind, output="sos", fs=rate_hz)
    start = signal.sosfilt_zi(sections)[:, None] * x.mean(axis=1)[None, :, None]  # (sections, L, 2)
    return np.asarray(signal.sosfilt(sections, x, zi=start)[0])
