"""`probe`, `predict`, `embed` and `show` of a checkpoint, from a pretraining to a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb
from tiny_run import SMALL, call, one_line, write_protocol

import melp_bench as mb
from melp_bench.plugins import discover
from melp_bench.runs import predicting
from melp_bench.runs.predicting import Predictor, file_readers
from melp_bench.runs.probes import kept_probes, read_probe

CATALOGUE = discover()
QUICK = [word for option in ("fractions=1.0", "seeds=0", "epochs=2") for word in ("-o", option)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(home))


@pytest.fixture
def folder(home: Path) -> Path:
    """Return the checkpoint of a MELP of a few steps, and its corpus as a store."""
    if not (found := list((home / "checkpoints").glob("melp-*"))):
        assert call("pretrain", "melp", "--protocol", write_protocol(home), *SMALL, "--device", "cpu") == 0
        found = list((home / "checkpoints").glob("melp-*"))
    return found[0]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    dataset = CATALOGUE.datasets["synthetic"].build(num_records=120, seed=1)
    signal = dataset.signal(Path(), next(iter(dataset.infos(Path()))))
    wfdb.wrsamp(
        "new",
        fs=signal.rate_hz,
        units=["mV"] * 12,
        sig_name=list(signal.leads),
        p_signal=signal.millivolts.T.astype(float),
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(tmp_path),
    )
    return tmp_path / "new.hea"


def test_a_new_file_has_scores_a_picture_and_the_attention_of_the_beat_objective(
    folder: Path, record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "STEPS", 0)  # of a pretraining, before which attention is not drawn
    assert call("probe", folder, "synthetic/super", *QUICK, "--device", "cpu") == 0
    assert "macro AUROC 0." in capsys.readouterr().out
    gone = tmp_path / "gone.hea"
    assert call("predict", folder, record, gone, "--out", tmp_path / "out", "--device", "cpu") == 1
    told = " ".join(capsys.readouterr().out.split())
    assert f"{gone} not scored: not-read: there is no such file" in told
    loaded = mb.load(str(folder), device="cpu")
    (path,) = kept_probes(loaded)
    probe, header = read_probe(path, loaded)
    scored = Predictor(loaded, probe, header, CATALOGUE).score(record, file_readers(CATALOGUE))
    assert scored.scores is not None
    best, score = next(iter(scored.scores.items()))
    assert f"{record} {best} {score:.2f}" in told
    assert scored.attention is not None
    assert len(scored.attention.sentences) == min(5, len(header.prompts))
    np.testing.assert_allclose(scored.attention.time.sum(axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(scored.attention.segments.sum(axis=1), 1, atol=1e-4)
    assert (tmp_path / "out" / "new.png").stat().st_size > 10_000
    assert "beat objective looks" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_show_of_a_checkpoint_says_what_it_has_seen_and_keeps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("probe", folder, "synthetic/super", *QUICK, "--device", "cpu") == 0
    capsys.readouterr()
    assert call("show", folder) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for fact in (
        "synthetic-super.safetensors",
        "16 steps of 8 from synthetic, seed 0",
        "corpora synthetic",
        "no more than folds 1-8",
    ):
        assert fact in shown


def test_features_of_a_dataset_are_written_and_not_mixed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features.parquet"
    assert call("embed", folder, "synthetic", "--out", out, "--device", "cpu") == 0
    assert "120 records in" in capsys.readouterr().out
    assert call("embed", folder, "synthetic", "--out", out, "--scale", "tokens", "--device", "cpu") == 2
    assert "of the scale 'record', not 'tokens'" in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["probe", "{folder}", "synthetic"], "is not DATASET/TASK"),
        (["probe", "{folder}", "nothing/super"], "no dataset or store named 'nothing'"),
        (["predict", "{folder}", "a.hea", "--probe", "none.safetensors"], "no probe 'none.safetensors'"),
        (["predict", "melp", "a.hea"], "is a recipe, and has no weights yet"),
        (["embed", "{folder}", "nothing", "--out", "x"], "no dataset or store named 'nothing'"),
        (["probe", "random-init+resnet1d-18", "synthetic/super"], "say where with --out FILE"),
        (["predict", "random-init+resnet1d-18", "a.hea"], "has no kept probe; make one: melp-bench probe"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call(*(argument.format(folder=folder) for argument in arguments)) == 2
    assert said in one_line(capsys)
