"""A made heart and a made person, of which the writers of vendors' formats beside this make files; and how a file is read back.

Shapes: L leads, T samples; `digital` is int16 (L, T), `step` microvolts of a unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melp_bench.leads import LEADS
from melp_bench.records import Signal
from melp_bench.store.pack import pack
from melp_plugins.datasets.synthetic import Synthetic

EIGHT = ("I", "II", *LEADS[6:])
Digital = NDArray[np.int16]


@dataclass(frozen=True)
class Person:
    """Someone whom no store may know."""

    number: str = "MRN7719364"
    first: str = "Wilhelmina"
    last: str = "Vanderquist"
    born: str = "1931-07-23"
    sex: str = "F"
    physician: str = "Okonkwo"

    @property
    def secrets(self) -> tuple[str, ...]:
        y, m, d = self.born.split("-")
        dates = (self.born, f"{y}{m}{d}", f"{m}-{d}-{y}", f"{d}{m}{y}", f"{d}-JUL-{y}", f"{d}.{m}.{y}")
        return (self.number, self.number.removeprefix("MRN"), self.first, self.last, self.physician, *dates)


def heart(seconds: float = 3.0, rate_hz: float = 500.0, step: float = 5.0, seed: int = 0) -> Digital:
    """Return twelve leads of a made heart (12, T), limb leads by Einthoven and Goldberger to half a unit."""
    made = Synthetic(num_records=1, seed=seed)
    signal = made.signal(None, next(iter(made.infos(None))))  # type: ignore[arg-type]
    own = np.arange(round(seconds * rate_hz)) / rate_hz
    time = np.arange(signal.millivolts.shape[1]) / signal.rate_hz
    x = np.stack([np.interp(own, time, row) for row in signal.millivolts])
    return np.rint(x * 1000 / step).astype(np.int16)


def rows(digital: Digital, leads: Sequence[str]) -> Digital:
    return digital[[LEADS.index(lead) for lead in leads]]


def same(signal: Signal, digital: Digital, leads: tuple[str, ...], *, step: float = 5.0, rate_hz: float = 500.0) -> bool:
    """Return True if a signal is `digital` units of `step` microvolts, and a store keeps every unit."""
    packed = pack(signal)
    assert signal.rate_hz == rate_hz
    assert packed.leads == leads
    assert np.abs(signal.millivolts - digital * (step / 1000)).max() < 1e-6 * np.abs(digital * step).max()
    return np.array_equal(packed.values, digital)
