"""A recipe whose decoder is kept: pretrained on the embedded corpus it writes reports, and they are scored."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from melp_bench.checkpoint import read_manifest
from melp_bench.errors import UserError
from melp_bench.model import widths_of
from melp_bench.plugins import discover
from melp_bench.protocol import Protocol
from melp_bench.recipe import Part, load_recipe
from melp_bench.runs.building import check_recipe
from melp_bench.runs.resolution import resolve
from melp_bench.runs.run import run
from melp_bench.testing.small import SIZES, SmallModel
from melp_plugins.objectives.report_writing import report_writing

CATALOGUE = discover()
PROTOCOL = Protocol.model_validate(
    {
        "name": "tiny",
        "revision": 1,
        "summary": "for tests",
        "datasets": {"s": {"dataset": "synthetic", "options": {"num_records": 160, "seed": 0}}},
        "pretrain": {"dataset": "s", "steps": 40, "batch_size": 16, "validate_every": 10},
        "interval": {"resamples": 20},
        "evaluations": [{"name": "captioning", "tasks": ["s/super"], "options": {"beams": 2, "most_words": 12}}],
    }
)
SMALL = {"encoder.layers": "1", "text.layers": "1"}


def test_pretrained_on_the_embedded_corpus_it_writes_and_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchmetrics", reason="needs torchmetrics: pip install 'melp-bench[captions]'")
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    found = run(PROTOCOL, ["coca-writer"], settings=SMALL, device="cpu", out=tmp_path / "board")
    (row,) = found.rows
    assert row.outcome is not None, row.reason
    assert set(row.outcome.scores) == {"report-f1", "bleu", "rouge-l"}
    assert all(math.isfinite(score.low) and score.low <= score.high for score in row.outcome.scores.values())
    assert row.outcome.details["written"] == row.outcome.details["records"] > 0
    history = read_manifest(found.plan.rows[0].candidate.folder).pretraining["history"]
    losses = history["report-writing"]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.2


def test_its_loss_is_that_of_every_next_word_which_a_loop_tells() -> None:
    torch.manual_seed(0)
    encoder = CATALOGUE.ecg_encoders["conv-transformer"].build(layers=1).eval()
    model = SmallModel()
    heads = CATALOGUE.heads["report-writer"].build(widths_of(encoder, model.text_encoder), width=16, queries=0, heads=2).eval()
    ecg = encoder(torch.randn(3, len(encoder.spec.leads), encoder.spec.samples))
    text = model.text(model.text_encoder.tokenize(["abc", "a", "bcdef"]))
    loss, count = report_writing(SIZES)(ecg, text, model.text_encoder, heads)
    terms = []
    for row in range(3):
        words = int(text.tokens_mask[row].sum())
        for word in range(1, words):  # told by nothing but what stands before it
            one = text.apply({n: t[row : row + 1, :word] for n, t in text.present().items() if n.startswith("token")})
            alone = ecg.apply({n: t[row : row + 1] for n, t in ecg.present().items()})
            logits = heads.next_words(alone, one)[0, -1] @ model.text_encoder.word_table().T
            terms.append(-logits.log_softmax(dim=-1)[text.token_ids[row, word]])
    assert count.item() == len(terms) == 9
    torch.testing.assert_close(loss, torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)


def test_its_gradient_reaches_the_decoder_that_is_kept() -> None:
    recipe = resolve(load_recipe("coca-writer"), CATALOGUE, SMALL)
    assert recipe.heads is not None
    assert recipe.heads.name == "report-writer"
    assert {term.name for term in recipe.stages[-1].objectives} == {"rhythm", "report-writing"}
    assert not list(report_writing(SIZES).parameters())  # all that it trains stays with the model


def test_what_cannot_write_is_refused_in_a_line() -> None:
    recipe = resolve(load_recipe("coca-writer"), CATALOGUE, SMALL)
    mute = recipe.model_copy(update={"heads": Part(name="melp", options={"queries": 0})})
    with pytest.raises(UserError, match="'report-writing' trains heads that write, as 'report-writer'"):
        check_recipe(resolve(mute, CATALOGUE, {}), CATALOGUE, classes=5)
    with pytest.raises(UserError, match="needs a causal text encoder"):
        check_recipe(resolve(load_recipe("coca-writer"), CATALOGUE, {**SMALL, "text.causal": "false"}), CATALOGUE, classes=5)
