"""The way of records from disk to a batch: from a store, and file by file as published benchmarks read them.

Records are made, as many for each way and the same: noise of a few Hz, 10 s at 500 Hz, twelve leads. The store and the files
are written to a folder of the process's own, and lie in the operating system's cache: what is measured is the work, no disk.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from melp_bench.filtering import Filter
from melp_bench.leads import LEADS
from melp_bench.records import Dataset, RecordInfo, Signal, Task
from melp_bench.signal import Scaling, SignalSpec
from melp_bench.store import prepare
from melp_bench.throughput.rows import SubjectName, Work
from melp_bench.throughput.subject import Subject

RECORDS = 256
"""A call reads them all once, in an order of chance."""
RATE_HZ, SECONDS = 500.0, 10.0
STEP = 0.001  # millivolts per unit
SPECS = {
    "store": SignalSpec(rate_hz=500.0, seconds=SECONDS, scaling=Scaling.ZSCORE_RECORD),
    "store-250hz-band": SignalSpec(
        rate_hz=250.0, seconds=SECONDS, scaling=Scaling.ZSCORE_RECORD, filter=Filter(band=(0.67, 40.0))
    ),
}
"""Ways out of a store, by what an encoder would ask for."""
FILES = "rdsamp-minmax"
"""Of each record `wfdb.rdsamp`, minimum and maximum."""
PATHS: Mapping[str, str] = {
    "store": "store to batch at 500 Hz, z-score",
    "store-250hz-band": "store to batch at 250 Hz, band pass 0.67 to 40 Hz, z-score",
    FILES: "wfdb.rdsamp and min-max, record by record",
}


class NoiseRecords(Dataset):
    """Noise of a few Hz as records, of which nothing is said."""

    version, licence, citation, generated = "1", "CC0-1.0", "", True

    def __init__(self, count: int) -> None:
        self.count = count

    @property
    def tasks(self) -> Mapping[str, Task]:
        """None."""
        return {}

    def infos(self, source: Path) -> Iterable[RecordInfo]:
        """Yield a name for each record."""
        return (RecordInfo(f"r{number}") for number in range(self.count))

    def signal(self, source: Path, info: RecordInfo) -> Signal:
        """Return the record, in whole units."""
        digital = self.digital(int(info.record_id.removeprefix("r")))
        return Signal((digital * np.float32(STEP)).astype(np.float32), RATE_HZ, LEADS, (STEP,) * len(LEADS))

    def digital(self, number: int) -> NDArray[np.int16]:
        """Return a record's units (L, T): a random walk that forgets in a tenth of a second."""
        from scipy.signal import lfilter

        drawn = np.random.default_rng(number).standard_normal((len(LEADS), int(RATE_HZ * SECONDS)))
        walk: NDArray[np.float64] = lfilter([1.0], [1.0, -0.98], drawn, axis=-1)
        return np.rint(100 * walk).astype(np.int16)


def path_subject(name: SubjectName, folder: Path, work: Work, device: torch.device) -> Subject:
    """Return a way of reading `RECORDS` records by the batch, whose files are written below `folder`."""
    made, order = NoiseRecords(RECORDS), np.random.default_rng(0).permutation(RECORDS)
    batches = [order[start : start + work.batch] for start in range(0, RECORDS, work.batch)]
    read = _from_files(made, folder) if name.name == FILES else _from_store(made, folder, SPECS[name.name], device)
    return Subject(name, nn.Identity(), RECORDS, lambda: [read(batch) for batch in batches], (), lambda: 0.0)


def _from_store(
    made: NoiseRecords, folder: Path, spec: SignalSpec, device: torch.device
) -> Callable[[NDArray[np.int64]], Tensor]:
    """Return what reads records out of a store, as `spec` asks for them, (B, L, T)."""
    store = prepare(made, name="made", source=None, root=folder / "store")
    return lambda positions: store.batch(positions, spec, device=device)


def _from_files(made: NoiseRecords, folder: Path) -> Callable[[NDArray[np.int64]], Tensor]:
    """Return what reads records (B, L, T) from WFDB files of format 16, scaled to 0 to 1."""
    import wfdb

    for number in range(made.count):
        wfdb.wrsamp(
            f"r{number}", RATE_HZ, ["mV"] * len(LEADS), list(LEADS), d_signal=made.digital(number).T.astype(np.int64),
            fmt=["16"] * len(LEADS), adc_gain=[1 / STEP] * len(LEADS), baseline=[0] * len(LEADS), write_dir=str(folder),
        )  # fmt: skip

    def read(positions: Sequence[int] | NDArray[np.int64]) -> Tensor:
        records = []
        for number in positions:
            values = wfdb.rdsamp(str(folder / f"r{number}"))[0].T
            records.append(((values - values.min()) / (values.max() - values.min())).astype(np.float32))
        return torch.from_numpy(np.stack(records))

    return read
