"""Models compared from their folders of features: by record id, on the same records only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from melp_bench.cli.results import app
from melp_bench.errors import UserError
from melp_bench.metrics.similarity import cka
from melp_bench.runs.feature_files import SAID, _fixed
from melp_bench.runs.similarity import compare_features

FEATURES = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)


def write(folder: Path, features: np.ndarray, *, model: str, records: str = "f", order: np.ndarray | None = None) -> Path:
    """Write features as `embed` does, in two files, their records in another order if so wanted."""
    order = np.arange(len(features)) if order is None else order
    folder.mkdir()
    (folder / SAID).write_text(json.dumps({"model": model, "records": records}))
    for part, rows in enumerate(np.array_split(order, 2)):
        ids = [f"r{row:03d}" for row in rows]
        table = pa.table({"record_id": ids, "patient_id": ids, "embedding": _fixed(np.ascontiguousarray(features[rows]))})
        pq.write_table(table, folder / f"part-{part:05d}.parquet")
    return folder


def test_every_two_models_are_compared_record_by_record(tmp_path: Path) -> None:
    noisy = FEATURES + np.random.default_rng(1).standard_normal(FEATURES.shape).astype(np.float32)
    mixed = np.random.default_rng(2).permutation(30)
    one, two = write(tmp_path / "one", FEATURES, model="m"), write(tmp_path / "two", noisy, model="n", order=mixed)
    turned = write(tmp_path / "three", 2 * FEATURES[:, ::-1], model="o", order=mixed)
    found = {(pair.first, pair.second): pair.similarity.value for pair in compare_features([one, two, turned])}
    assert found["m", "o"] == pytest.approx(1)
    assert found["m", "n"] == pytest.approx(cka(FEATURES, noisy)) == pytest.approx(found["n", "o"])
    assert compare_features([one, two], most=10)[0].records == 10
    said = CliRunner().invoke(app, ["similarity", str(one), str(turned)])
    assert said.output == "1.000 [1.000, 1.000]  m and o, 30 records\n"


def test_other_records_and_folders_of_something_else_are_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", FEATURES, model="m"), write(tmp_path / "two", FEATURES, model="n", records="g")
    with pytest.raises(UserError, match="features of other records"):
        compare_features([one, other])
    with pytest.raises(UserError, match="holds no whole features"):
        compare_features([one, tmp_path])
    with pytest.raises(UserError, match="two models or more"):
        compare_features([one])
