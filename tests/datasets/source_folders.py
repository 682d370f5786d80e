"""Folders in the form of published datasets, with generated hearts in them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray

from melp_bench.signal import LEADS
from melp_plugins.datasets.synthetic import Synthetic


@cache
def hearts(count: int, rate_hz: float = 500.0, seconds: float = 10.0) -> tuple[NDArray[np.float32], ...]:
    """Return the millivolts (12, T) of generated records, in the usual order of leads."""
    made = Synthetic(num_records=count, rate_hz=rate_hz, seconds=seconds)
    return tuple(made.signal(Path(), info).millivolts for info in made.infos(Path()))


def write_wfdb(
    path: Path,
    millivolts: NDArray[np.float32],
    rate_hz: float,
    *,
    leads: Sequence[str] = LEADS,
    gain: float = 1000.0,
    comments: Sequence[str] = (),
) -> None:
    """Write a record of 16 bits at `path`, a name without ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        path.name,
        rate_hz,
        ["mV"] * len(leads),
        list(leads),
        millivolts.T.astype(float),
        fmt=["16"] * len(leads),
        adc_gain=[gain] * len(leads),
        baseline=[0] * len(leads),
        comments=list(comments),
        write_dir=str(path.parent),
    )


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV, their columns those of the first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
