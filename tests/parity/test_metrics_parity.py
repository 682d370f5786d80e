"""The published zero-shot metrics, on the published reference's own numbers (scikit-learn, times 100)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from melp_bench.metrics import acc_as_published, auroc, max_f1

FOLDER = Path(os.environ.get("MELP_BENCH_PARITY", "")) / "metrics"
pytestmark = pytest.mark.skipif(
    not os.environ.get("MELP_BENCH_PARITY") or not FOLDER.is_dir(), reason="MELP_BENCH_PARITY names no parity data"
)


@pytest.mark.parametrize("name", ["main", "rare", "ties", "const"])
def test_auroc_maximal_f1_and_accuracy_are_the_published_ones(name: str) -> None:
    expected = json.loads((FOLDER / "expected.json").read_text())[name]
    with np.load(FOLDER / "fixture.npz", allow_pickle=False) as arrays:
        labels, scores = arrays[f"{name}_gt"], arrays[f"{name}_pred"]
    got = {"AUROC": auroc(scores, labels), "F1": max_f1(scores, labels)[0], "ACC": acc_as_published(scores, labels)}
    compared = {f"{metric}_c{c}": 100 * value for metric, values in got.items() for c, value in enumerate(values)}
    assert set(compared) == set(expected)
    for key, value in expected.items():
        assert compared[key] == pytest.approx(value, abs=1e-9), key
