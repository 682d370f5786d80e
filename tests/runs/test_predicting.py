"""A kept probe scores new files as the evaluation scored test records; what it cannot read is told, and nothing escapes."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wfdb
from matplotlib.image import imread
from safetensors.torch import load_file, save
from small_checkpoint import CATALOGUE, generated_store, write_checkpoint

import melp_bench as mb
from melp_bench.evaluations import FitsProbe
from melp_bench.records import BadRecord, ReadsFiles
from melp_bench.runs.loaded import LoadedModel
from melp_bench.runs.predicting import Predictor, Scored, file_readers, read_record
from melp_bench.runs.prediction_pages import _file_names, scored_figure, write_predictions
from melp_bench.runs.probes import (
    FittedProbe,
    ProbeHeader,
    _context,
    fit_probe,
    probe_path,
    read_probe,
    write_probe,
)
from melp_bench.store import Store

TASK = "super"
QUICK = {"fractions": (1.0,), "seeds": (0, 1), "epochs": 3}
REAL = os.environ.get("MELP_BENCH_REAL_ECG")
Kept = tuple[FittedProbe, ProbeHeader]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(home))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return generated_store(tmp_path_factory.mktemp("store"), records=150)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return mb.load(str(write_checkpoint(tmp_path_factory.mktemp("checkpoint"))), device="cpu")


@pytest.fixture
def kept(store: Store, model: LoadedModel) -> Kept:
    return fit_probe(model, store, TASK, CATALOGUE, options=QUICK)


def write_record(folder: Path, name: str, signal: mb.Signal, leads: list[str] | None = None) -> Path:
    """Write a record as WFDB, 1 microvolt per unit, and return its header."""
    wfdb.wrsamp(
        name,
        fs=signal.rate_hz,
        units=["mV"] * len(signal.leads),
        sig_name=leads or list(signal.leads),
        p_signal=signal.millivolts.T.astype(float),
        fmt=["16"] * len(signal.leads),
        adc_gain=[1000.0] * len(signal.leads),
        baseline=[0] * len(signal.leads),
        write_dir=str(folder),
    )
    return folder / f"{name}.hea"


def test_a_kept_probe_scores_as_the_mean_of_the_evaluations_seeds(store: Store, model: LoadedModel, kept: Kept) -> None:
    probe, header = kept
    context = _context(model, store, f"synthetic/{TASK}", "linear_probe", lambda done, total: None)
    evaluation = CATALOGUE.evaluations["linear_probe"].build(**QUICK)
    assert isinstance(evaluation, FitsProbe)
    (measurement,) = evaluation.expand([f"synthetic/{TASK}"])
    predictions = evaluation.run(context, measurement)  # (S, n, C) logits of test records
    position = {record: i for i, record in enumerate(store.record_ids.tolist())}
    for row, record in enumerate(predictions.record_ids[:8].tolist()):
        signal = store.signal(position[record])
        embedding = torch.from_numpy(model.embed(signal.millivolts, signal.rate_hz, signal.leads))
        np.testing.assert_allclose(
            probe.logits(embedding[None])[0].numpy(), predictions.scores[:, row].mean(axis=0), rtol=1e-3, atol=1e-4
        )
    assert tuple(header.classes) == predictions.classes == probe.classes
    assert header.details["seeds"] == [0, 1]
    assert set(header.validation_auroc) == set(header.classes)


def test_a_probe_comes_back_as_it_was_kept(model: LoadedModel, kept: Kept, tmp_path: Path) -> None:
    path = probe_path(tmp_path, kept[1])
    assert path == tmp_path / "probes" / "synthetic-super.safetensors"
    write_probe(path, *kept)
    probe, header = read_probe(path, model)
    assert header == kept[1]
    for name in ("weight", "bias", "mean", "scale"):
        assert torch.equal(getattr(probe, name), getattr(kept[0], name))


def test_a_probe_of_another_model_or_a_damaged_one_is_refused(model: LoadedModel, kept: Kept, tmp_path: Path) -> None:
    path, other = tmp_path / "probe.safetensors", mb.load(str(write_checkpoint(tmp_path / "other", seed=1)), device="cpu")
    write_probe(path, *kept)
    whole, tensors = path.read_bytes(), load_file(path)
    named = kept[1].model_dump_json()
    cases: list[tuple[bytes | None, LoadedModel, str]] = [
        (whole, other, "other weights, options or code"),
        (whole[:200], model, "is no whole safetensors file"),
        (save(tensors), model, "is no probe of ours"),
        (save({**tensors, "bias": torch.zeros(2)}, metadata={"probe": named}), model, "bias has the shape"),
        (save({"bias": torch.zeros(2)}, metadata={"probe": named}), model, "is no whole safetensors file"),
        (None, model, "no probe .*; make one: melp-bench probe"),
    ]
    for content, used, said in cases:
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(mb.UserError, match=said) as caught:
            read_probe(path, used)
        assert "\n" not in str(caught.value)


def test_an_evaluation_without_a_probe_is_refused(store: Store, model: LoadedModel) -> None:
    with pytest.raises(mb.UserError, match="'knn' fits no probe that can be kept"):
        fit_probe(model, store, TASK, CATALOGUE, evaluation="knn")
    with pytest.raises(mb.UnknownName, match="no task 'supper'; did you mean 'super'"):
        fit_probe(model, store, "supper", CATALOGUE)


def test_files_are_read_by_any_dataset_that_reads_files(store: Store, tmp_path: Path) -> None:
    readers = file_readers(CATALOGUE)
    assert "wfdb-folder" in dict(readers)
    assert all(isinstance(reader, ReadsFiles) for _, reader in readers)
    header = write_record(tmp_path, "one", store.signal(0))
    for path in (header, header.with_suffix(".dat"), tmp_path / "one"):
        name, signal = read_record(path, readers)
        assert name == "wfdb-folder"
        np.testing.assert_allclose(signal.millivolts, store.signal(0).millivolts, atol=6e-4)
    (tmp_path / "scan.pdf").write_bytes(b"%PDF")
    for path, said in ((tmp_path / "scan.pdf", "no dataset reads such a file"), (tmp_path / "none*.hea", "no such file")):
        with pytest.raises(BadRecord, match=said):
            read_record(path, readers)
    with pytest.raises(mb.UserError, match=r"'synthetic' reads no single files; those that do: .*wfdb-folder"):
        file_readers(CATALOGUE, "synthetic")


def test_what_cannot_be_scored_says_why_and_stops_nothing(store: Store, model: LoadedModel, kept: Kept, tmp_path: Path) -> None:
    signal = store.signal(0)
    write_record(tmp_path, "whole", signal)
    two = mb.Signal(signal.millivolts[:2], signal.rate_hz, signal.leads[:2])
    write_record(tmp_path, "two", two)
    write_record(tmp_path, "torn", signal)
    (tmp_path / "torn.dat").write_bytes(b"")
    predictor = Predictor(model, *kept, CATALOGUE)
    readers = file_readers(CATALOGUE)
    scored = {name: predictor.score(tmp_path / name, readers) for name in ("whole", "two", "torn", "gone")}
    assert list(scored["whole"].scores or {}) == sorted(kept[0].classes, key=lambda c: -(scored["whole"].scores or {})[c])
    assert {name: one.scores is None for name, one in scored.items()} == {
        "whole": False, "two": True, "torn": True, "gone": True,
    }  # fmt: skip
    assert "V1" in scored["two"].reason
    assert "no such file" in scored["gone"].reason


def test_the_page_shows_names_and_classes_and_runs_nothing_of_them(
    store: Store, model: LoadedModel, kept: Kept, tmp_path: Path
) -> None:
    evil = "<script>alert(1)</script>"
    header = kept[1]
    classes = (evil, *header.classes[1:])
    named = header.model_copy(update={"classes": list(classes), "validation_auroc": dict.fromkeys(classes)})
    scores = dict.fromkeys(classes, 0.5)
    records = [
        Scored(Path("../../a/<img src=x onerror=y>.hea"), "", "wfdb-folder", store.signal(0), scores),
        Scored(Path("=cmd()"), reason=f"not read: {evil}\x1b[2J"),
    ]
    files = write_predictions(records, model, named, tmp_path / "out")
    assert {path.parent for path in files} == {tmp_path / "out"}
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "default-src 'none'" in page
    assert len(re.findall(r'src="data:image/png;base64,[A-Za-z0-9+/=]{1000,}"', page)) == 1
    with (tmp_path / "out" / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows[:-1]] == list(classes)
    assert rows[-1]["record"] == "'=cmd()"


def test_pictures_of_files_of_one_name_do_not_overwrite_each_other() -> None:
    records = [Scored(Path(name)) for name in ("a/1.hea", "b/1.hea", "c/1", "C/1.HEA", "..", "e/é.hea")]
    names = _file_names(records)
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.png", name) for name in names)


def dark_columns(path: Path, rows: slice) -> int:
    """Return how many columns of a part of a picture hold the bars' dark blue."""
    pixels = imread(path)[rows]
    blue = np.abs(pixels[..., :3] - np.array([0x12, 0x46, 0x7F]) / 255).max(axis=-1) < 0.1
    return int(blue.any(axis=0).sum())


def test_a_bar_is_as_long_as_its_score(store: Store, tmp_path: Path) -> None:
    lengths = []
    for score in (0.25, 0.5, 1.0):
        path = tmp_path / f"{score}.png"
        scored_figure(Scored(Path("one"), "", "r", store.signal(0), {"AFIB": score})).savefig(path)
        lengths.append(dark_columns(path, slice(-250, None)))
    assert lengths[2] > 500
    np.testing.assert_allclose(np.array(lengths) / lengths[2], (0.25, 0.5, 1.0), atol=0.01)


@pytest.mark.skipif(REAL is None, reason="MELP_BENCH_REAL_ECG is not set")
def test_real_files_of_other_sources_are_scored(model: LoadedModel, kept: Kept) -> None:
    predictor, readers = Predictor(model, *kept, CATALOGUE), file_readers(CATALOGUE)
    folder = Path(str(REAL))
    paths: list[Any] = [*sorted(folder.glob("ptb-xl/records500/*/*.hea"))[:2], *sorted(folder.glob("cpsc2018/*.hea"))[:2]]
    paths += sorted(folder.glob("code-15/wfdb/*.hea"))[:2]
    for path in paths:
        scored = predictor.score(path, readers)
        assert scored.scores is not None, scored.reason
        assert all(0 <= score <= 1 for score in scored.scores.values())
