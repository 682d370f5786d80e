"""The published zero-shot metrics, on the published reference's own numbers (scikit-learn, times 100)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from parity_folders import NONE, folders_with

from melp_bench.metrics import acc_as_published, auroc, max_f1

FOLDERS = folders_with("expected.json")
if not FOLDERS:
    pytest.skip(f"{NONE} with metrics", allow_module_level=True)
CASES = [(folder, name) for folder in FOLDERS for name in json.loads((folder / "expected.json").read_text())]


@pytest.mark.parametrize(("folder", "name"), CASES, ids=[f"{folder.name}-{name}" for folder, name in CASES])
def test_auroc_maximal_f1_and_accuracy_are_the_published_ones(folder: Path, name: str) -> None:
    expected = json.loads((folder / "expected.json").read_text())[name]
    with np.load(folder / "fixture.npz", allow_pickle=False) as arrays:
        labels, scores = arrays[f"{name}_gt"], arrays[f"{name}_pred"]
    got = {"AUROC": auroc(scores, labels), "F1": max_f1(scores, labels)[0], "ACC": acc_as_published(scores, labels)}
    compared = {f"{metric}_c{c}": 100 * value for metric, values in got.items() for c, value in enumerate(values)}
    assert set(compared) == set(expected)
    for key, value in expected.items():
        assert compared[key] == pytest.approx(value, abs=1e-9), key
