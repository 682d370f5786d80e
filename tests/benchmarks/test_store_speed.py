"""Native files to a store, and the store to batches, beside plain `wfdb.rdsamp` on the same records in one run, on one core.

Run with `pytest --benchmark-enable tests/benchmarks`; what it shows are ratios, and the machine does not matter for them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb

from melp_bench.records import Dataset, RecordInfo
from melp_bench.signal import Scaling, SignalSpec
from melp_bench.store import Store, prepare
from melp_bench.store.shard import Job, write_shard
from melp_plugins.datasets.synthetic import Synthetic
from melp_plugins.datasets.wfdb_folder import WFDBFolder

RECORDS = 256
SPEC = SignalSpec(rate_hz=500, seconds=10, scaling=Scaling.MINMAX_RECORD)
Benchmark = Callable[..., object]


@pytest.fixture(autouse=True)
def _only_when_asked(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("a benchmark; run with --benchmark-enable")
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of made records in WFDB format 16 with checksums, 10 s at 500 Hz, as PTB-XL and MIMIC-IV-ECG are."""
    made, root = Synthetic(num_records=RECORDS), tmp_path_factory.mktemp("wfdb")
    lines = ["record,class"]
    for number, info in enumerate(made.infos(root)):
        signal = made.signal(root, info)
        wfdb.wrsamp(
            f"r{number}", 500, ["mV"] * 12, list(signal.leads), signal.millivolts.T.astype(np.float64), fmt=["16"] * 12,
            adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(root),
        )  # fmt: skip
        lines.append(f"r{number},1")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepare(WFDBFolder(), name="made", source=folder, root=tmp_path_factory.mktemp("stores") / "made")


@pytest.mark.benchmark(group="read native records: prepare is to be at least 0.9 x rdsamp")
def test_rdsamp(folder: Path, benchmark: Benchmark) -> None:
    benchmark(lambda: [wfdb.rdsamp(str(folder / f"r{number}")) for number in range(RECORDS)])


@pytest.mark.benchmark(group="read native records: prepare is to be at least 0.9 x rdsamp")
def test_prepare(folder: Path, tmp_path: Path, benchmark: Benchmark) -> None:
    dataset: Dataset = WFDBFolder()
    infos: list[RecordInfo] = list(dataset.infos(folder))
    for inner in ("shards", "parts"):
        (tmp_path / inner).mkdir()
    benchmark(lambda: write_shard(dataset, folder, tmp_path, Job(0, infos)))


@pytest.mark.benchmark(group="conformed batches: the store is to be at least 25 x rdsamp and min-max")
def test_batches_from_files(folder: Path, benchmark: Benchmark) -> None:
    def read() -> None:
        for number in range(RECORDS):
            x = wfdb.rdsamp(str(folder / f"r{number}"))[0].T
            ((x - x.min()) / (x.max() - x.min())).astype(np.float32)

    benchmark(read)


@pytest.mark.benchmark(group="conformed batches: the store is to be at least 25 x rdsamp and min-max")
def test_batches_from_a_store(store: Store, benchmark: Benchmark) -> None:
    order = np.random.default_rng(0).permutation(len(store)).reshape(-1, 64)
    benchmark(lambda: [store.batch(rows, SPEC) for rows in order])
