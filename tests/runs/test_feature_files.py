"""Features of a dataset as Parquet: complete, resumable shard by shard, and never two models in one folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_checkpoint import generated_store, write_checkpoint

import melp_bench as mb
from melp_bench.embedding import embed
from melp_bench.runs.feature_files import write_features
from melp_bench.runs.loaded import LoadedModel
from melp_bench.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return generated_store(tmp_path_factory.mktemp("store"), records=90)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return mb.load(str(write_checkpoint(tmp_path_factory.mktemp("checkpoint"))), device="cpu")


def test_the_folder_reads_as_one_table_with_ids_and_folds(store: Store, model: LoadedModel, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    out = tmp_path / "features.parquet"
    files = write_features(model, store, out, scale="segments", advance=lambda done, total: steps.append((done, total)))
    assert len(files) == len(set(store.shards.tolist())) > 1
    assert (steps[0], steps[-1]) == ((0, len(store)), (len(store), len(store)))
    table = pd.read_parquet(out)
    assert table["record_id"].tolist() == store.record_ids.tolist()
    assert table["patient_id"].tolist() == store.patient_ids.tolist()
    assert table["fold"].tolist() == store.folds.tolist()
    kept = embed(lambda: model.model, model.identity, store, tmp_path / "kept", device=torch.device("cpu"))
    np.testing.assert_allclose(np.stack(table["embedding"]), kept.embedding.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.stack(table["record"]), kept.record.numpy(), rtol=1e-4, atol=1e-5)
    first = store.signal(0)
    segments = model.embed(first.millivolts, first.rate_hz, first.leads, scale="segments")
    np.testing.assert_allclose(np.stack(table["segments"][0]), segments, rtol=1e-4, atol=1e-5)


def test_ranks_write_each_its_shards_and_together_what_one_writes(store: Store, model: LoadedModel, tmp_path: Path) -> None:
    alone = write_features(model, store, tmp_path / "alone")
    done: list[tuple[int, int]] = []
    for rank in (1, 0):
        told = write_features(model, store, tmp_path / "shared", advance=lambda *a: done.append(a), rank=rank, ranks=2)
        assert [path.name for path in told] == [path.name for path in alone]
        assert sum(path.is_file() for path in told) == (len(alone) if rank == 0 else len(alone) // 2)
    assert [path.read_bytes() for path in told] == [path.read_bytes() for path in alone]
    assert sum(total for before, total in done if before == total) == len(store)


def test_it_goes_on_where_it_was_stopped(
    store: Store, model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_features(model, store, tmp_path)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    files[1].unlink()
    files[2].write_bytes(before[files[2]][1][:100])  # as a disk that was full leaves it
    (tmp_path / ".tmp-left-over").write_bytes(b"x")
    made: list[int] = []
    monkeypatch.setattr(
        Store,
        "windows",
        lambda self, positions, *a, _real=Store.windows, **k: made.extend(positions) or _real(self, positions, *a, **k),
    )
    steps: list[int] = []
    assert write_features(model, store, tmp_path, advance=lambda done, total: steps.append(done)) == files
    assert sorted(made) == np.flatnonzero(np.isin(store.shards, [1, 2])).tolist()
    assert steps[0] == len(store) - len(made)
    assert {path: path.read_bytes() for path in files} == {path: content for path, (_, content) in before.items()}
    assert files[0].stat().st_mtime_ns == before[files[0]][0]


def test_a_folder_of_other_features_is_refused(store: Store, model: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "features"
    write_features(model, store, out)
    written = {path: path.read_bytes() for path in out.glob("*.parquet")}
    other = mb.load(str(write_checkpoint(tmp_path / "other", seed=1)), device="cpu")
    few = generated_store(tmp_path / "few", records=70)
    for refused, said in (
        (lambda: write_features(other, store, out), "another version of 'small': other weights, options or code"),
        (lambda: write_features(model, few, out), "other records of 'synthetic'"),
        (lambda: write_features(model, store, out, scale="tokens"), "of the scale 'record', not 'tokens'"),
    ):
        with pytest.raises(mb.UserError, match=said) as caught:
            refused()
        assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in out.glob("*.parquet")} == written


def test_a_folder_of_something_else_is_left_alone(store: Store, model: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_bytes(b"x")
    with pytest.raises(mb.UserError, match=r"holds 'thesis.docx' and no features of ours"):
        write_features(model, store, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["thesis.docx"]


def test_a_damaged_account_is_told(store: Store, model: LoadedModel, tmp_path: Path) -> None:
    for content in ("{", json.dumps({"model": "small"}), "[]"):
        (tmp_path / "_features.json").write_text(content, encoding="utf-8")
        with pytest.raises(mb.UserError, match="is damaged"):
            write_features(model, store, tmp_path)
