"""A model that nobody here wrote or trained, from a package of its own: its features are its own, and its marks are honest."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import call

import melp_bench as mb
from melp_bench.board.leakage import leaks
from melp_bench.plugins import discover
from melp_bench.results import read_results
from melp_bench.store import prepare

pytestmark = [
    pytest.mark.skipif(find_spec("openecg") is None, reason="the package openecg is not installed (pip install openecg)"),
    pytest.mark.skipif(
        find_spec("melp_bench_external_openecg") is None,
        reason="tests/external is not installed (pip install --no-deps tests/external)",
    ),
]
NAME = "openecg-codec"
REAL, SAMPLE = os.environ.get("MELP_BENCH_REAL_ECG"), os.environ.get("MELP_BENCH_MORE_ECG")
needs_real = pytest.mark.skipif(REAL is None, reason="MELP_BENCH_REAL_ECG is not set")
PROTOCOL = """
name = "real"
revision = 1
summary = "for tests"

[datasets.ludb]
dataset = "ludb"
split = "cross-validate"

[interval]
resamples = 20

[[evaluations]]
name = "knn"
tasks = ["ludb/rhythm"]
"""


@pytest.fixture(scope="module")
def model() -> mb.LoadedModel:
    return mb.load(NAME, device="cpu")


def test_what_it_ranks_is_what_the_packages_own_normalisation_gives() -> None:
    import melp_bench_external_openecg as external
    from openecg import rank_normalize

    signal = torch.randn(2, 3, 400, generator=torch.Generator().manual_seed(0))
    signal[0, 1, 50:80] = 0.25  # equal samples share a rank
    signal[1, 2] = 0.0
    for record in range(2):
        for lead in range(3):
            own = rank_normalize(signal[record, lead].numpy())
            np.testing.assert_allclose(external.ranks(signal)[record, lead].numpy(), own, atol=1e-6)


@torch.no_grad()
def test_its_tokens_carry_what_the_packages_own_heads_read(model: mb.LoadedModel) -> None:
    """With heads and refinement put back, the encoder says wave by wave what the package's own model says of the signal."""
    import melp_bench_external_openecg as external
    from openecg import rank_normalize

    whole, encoder = external.codec("v6").eval(), model.model.encoder
    time = np.arange(5000) / 500
    phase = time * 1.2 % 1
    lead = np.exp(-(((phase - 0.4) / 0.015) ** 2)) + 0.2 * np.exp(-(((phase - 0.7) / 0.05) ** 2)) + 0.01 * np.sin(40 * time)
    signal = torch.tensor(lead, dtype=torch.float32)[None, None]
    tokens = encoder(signal).tokens  # (1, N, D)
    ranked = torch.from_numpy(np.asarray(rank_normalize(lead)))[None]
    frame, _, _ = whole(ranked, torch.zeros(1, dtype=torch.long))  # (1, T, 4) of other, P, QRS and T
    states = tokens.repeat_interleave(10, dim=1).mT
    put_back = whole.head_sample((states + whole.refine(states)).mT)
    torch.testing.assert_close(put_back, frame, rtol=1e-3, atol=1e-3)
    peaks = np.flatnonzero(np.isclose(phase, 0.4, atol=0.002))
    assert (frame[0, peaks].argmax(dim=-1) == 2).float().mean() > 0.8  # it finds the QRS complexes


def test_it_is_shown_with_what_it_has_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", NAME) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for fact in ("Apache-2.0", "ludb", "model cards of codec_v1", "ludb-zero-shot-probe: ludb/rhythm", "--model openecg-codec"):
        assert fact in shown


def test_its_weights_are_part_of_its_identity(model: mb.LoadedModel) -> None:
    digests = discover().ecg_encoders[NAME].read_digests({})
    assert list(digests) == ["codec_v6.pt"]
    assert mb.load(NAME, settings={"encoder.version": "v1"}, device="cpu").identity != model.identity
    with pytest.raises(mb.UserError, match="wanted one of v1, v3, v4, v5, v6"):
        mb.load(NAME, settings={"encoder.version": "../../x"}, device="cpu")


def test_several_leads_are_several_times_one(model: mb.LoadedModel) -> None:
    three = mb.load(NAME, settings={"encoder.leads": "V1,II,V6"}, device="cpu")
    signal = np.random.default_rng(0).normal(size=(12, 5000)).astype(np.float32)
    made = three.embed(signal, 500.0).reshape(3, -1)
    assert np.allclose(made[1], model.embed(signal, 500.0), atol=1e-5)
    assert not np.allclose(made[1], made[0], atol=1e-3)


@needs_real
def test_a_row_on_ludb_is_marked_and_needs_no_pretraining(
    model: mb.LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    entry = discover().datasets["ludb"]
    dataset = entry.build()
    few = [info for number, info in enumerate(dataset.infos(Path(str(REAL)) / "ludb")) if number % 5 == 0]  # 40
    monkeypatch.setattr(type(dataset), "infos", lambda self, source: iter(few))
    prepare(dataset, name="ludb", source=Path(str(REAL)) / "ludb", options=entry.resolve({}))
    protocol = tmp_path / "real.toml"
    protocol.write_text(PROTOCOL, encoding="utf-8")
    assert call("run", protocol, "-m", NAME, "--out", tmp_path / "board", "--device", "cpu") == 0
    (row,) = read_results(tmp_path / "board" / "results")
    assert (row.model, row.status) == (NAME, "scored")
    assert leaks(row) == ["ludb"]
    assert "codec_v6.pt" in str(row.inputs.model["files"])
    board = (tmp_path / "board" / "README.md").read_text(encoding="utf-8")
    assert any(NAME in line and "†" in line for line in board.splitlines() if line.startswith("|"))
    assert call("run", protocol, "-m", "resnet1d-18", "--out", tmp_path / "board") == 2  # has none, and nothing to learn from
