"""A store's description in Croissant: accepted by the format's own library, which reads the records by it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from melp_bench.cli import _run
from melp_bench.store import open_store, prepare
from melp_bench.store.croissant import croissant
from melp_plugins.datasets.synthetic import Synthetic


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELP_BENCH_HOME", str(home))
        store = prepare(Synthetic(num_records=24), name="synthetic", source=None, options={"num_records": 24})
        assert _run(["data", "croissant", "synthetic"], False) == 0
    return store.root


def test_every_file_is_named_with_its_digest_and_every_column_is_a_field(root: Path) -> None:
    found = json.loads((root / "croissant.json").read_text(encoding="utf-8"))
    assert found == croissant(root, open_store(root).manifest)
    for file in found["distribution"]:
        assert hashlib.sha256((root / file["contentUrl"]).read_bytes()).hexdigest() == file["sha256"]
    assert len(found["distribution"]) == 1 + len(list((root / "shards").iterdir()))
    names = {field["name"] for field in found["recordSet"][0]["field"]}
    assert {"record_id", "patient_id", "report", "fold", "leads", "rate_hz", "gains"} <= names
    assert found["license"] == open_store(root).manifest.licence


def test_no_value_of_a_record_is_in_it(root: Path) -> None:
    text, store = (root / "croissant.json").read_text(encoding="utf-8"), open_store(root)
    assert not any(value in text for value in (*store.record_ids.tolist(), *(r for r in store.reports if len(r) > 8)))


def test_the_formats_own_library_accepts_it_and_reads_the_records(root: Path) -> None:
    library = pytest.importorskip("mlcroissant", reason="pip install 'melp-bench[croissant]'")
    dataset = library.Dataset(str(root / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    records = list(dataset.records("records"))
    ids = [record["records/record_id"].decode() for record in records]
    store = open_store(root)
    assert ids == store.record_ids.tolist()
    assert [int(record["records/fold"]) for record in records] == store.folds.tolist()
