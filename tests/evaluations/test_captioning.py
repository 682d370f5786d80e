"""Captioning: the search finds the best text, the rule reads reports, and a decoder that knows writes what is true."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.errors import NotApplicable, UserError
from melp_bench.measure import measure
from melp_bench.model import Model, widths_of
from melp_bench.plugins import discover
from melp_bench.results import Interval
from melp_bench.testing.evaluations import Letters, MadeRecords, NormedEncoder, made_model, made_task
from melp_plugins.evaluations.beam_search import beam_search
from melp_plugins.evaluations.captioning import COLUMNS, Captioning, rouge_l, word_counts
from melp_plugins.evaluations.report_labels import stated_classes
from melp_plugins.metrics.written_reports import corpus_bleu, macro_f1

CATALOGUE = discover()
METRICS = tuple(CATALOGUE.metrics[name].build() for name in Captioning.metrics)


# -------------------------------------------------------------------------------------------------------------- search


def chain(words: int, seed: int) -> Tensor:
    """Return log-probabilities (V, V) of the word after each word; 0 begins, 1 ends."""
    logits = torch.randn(words, words, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    logits[:, 0] = -math.inf
    return logits.log_softmax(dim=-1)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_with_beams_enough_it_is_the_best_of_all_texts(seed: int, length_penalty: float) -> None:
    table = chain(5, seed)
    best, best_score = (), -math.inf
    for length in range(4):
        for text in itertools.product(range(2, 5), repeat=length):
            steps = list(itertools.pairwise((0, *text, 1)))
            score = sum(float(table[a, b]) for a, b in steps) / len(steps) ** length_penalty
            if score > best_score:
                best, best_score = text, score
    found = beam_search(lambda ids: table[ids[:, -1]], 0, 1, beams=100, most_words=3, length_penalty=length_penalty)
    assert found.ids == best
    assert found.score == pytest.approx(best_score)


def test_more_beams_leave_a_garden_path() -> None:
    """The likeliest first word leads to unlikely ends: one beam takes it, two do not."""
    table = torch.full((5, 5), -math.inf, dtype=torch.float64)
    table[0, 2], table[0, 3] = math.log(0.6), math.log(0.4)
    table[2, 1], table[2, 4], table[4, 1], table[3, 1] = math.log(0.3), math.log(0.7), math.log(0.3), 0.0
    one, two = (beam_search(lambda i: table[i[:, -1]], 0, 1, beams=b, most_words=4, length_penalty=0.0) for b in (1, 2))
    assert (one.ids, two.ids) == ((2,), (3,))
    assert two.score == pytest.approx(math.log(0.4))
    cut = beam_search(lambda ids: table[ids[:, -1]], 0, 1, beams=2, most_words=1, length_penalty=0.0)
    assert len(cut.ids) <= 1


# ---------------------------------------------------------------------------------------------------------------- rule


def test_the_rule_reads_phrases_and_what_denies_them() -> None:
    phrases = {
        "AFIB": ("atrial fibrillation",),
        "RBBB": ("right bundle branch block", "RBBB"),
        "IRBBB": ("incomplete right bundle branch block",),
        "STE": ("ST elevation",),
        "MI": ("MI",),
    }
    for report, expected in (
        ("Atrial fibrillation, complete  right bundle\nbranch block.", {"AFIB", "RBBB"}),
        ("Incomplete right bundle branch block.", {"IRBBB"}),
        ("Incomplete right bundle branch block, then RBBB.", {"IRBBB", "RBBB"}),
        ("No atrial fibrillation or ST elevation.", set()),
        ("No ST elevation. Atrial fibrillation.", {"AFIB"}),
        ("No ST elevation but atrial fibrillation", {"AFIB"}),
        ("Sinus rhythm without ST elevation, old MI", {"MI"}),
        ("Mild minimal change", set()),
        ("", set()),
    ):
        assert stated_classes(report, phrases) == expected, report


def test_macro_f1_is_scikit_learns() -> None:
    from sklearn.metrics import f1_score

    generator = np.random.default_rng(0)
    truth, stated = generator.random((60, 4)) < 0.3, generator.random((60, 4)) < 0.4
    drawn = generator.integers(0, 3, (60, 2)).astype(float)
    words = np.zeros((60, 6))
    found = macro_f1(np.c_[stated, words], np.c_[truth, words], drawn)
    expected = [f1_score(truth, stated, average="macro", sample_weight=w) for w in drawn.T]
    np.testing.assert_allclose(found, expected)
    assert np.isnan(macro_f1(np.zeros((5, 9)), np.zeros((5, 9)), np.ones((5, 1)))).all()


def test_bleu_and_rouge_are_torchmetrics() -> None:
    from torchmetrics.functional.text import bleu_score

    generator = np.random.default_rng(1)
    real = [" ".join(generator.choice(list("abc"), generator.integers(1, 12))) for _ in range(30)]
    written = [
        " ".join(word if generator.random() < 0.8 else "x" for word in text.split()[: 1 + i % 9]) for i, text in enumerate(real)
    ]
    shared, whole = word_counts([*written, ""], [*real, "A b"])
    rouge = np.zeros(31)
    values, truth = (np.c_[np.zeros((31, 2)), some, rouge] for some in (shared, whole))
    drawn = generator.integers(0, 3, (31, 3)).astype(float)
    drawn[:, 2] = 0
    found = corpus_bleu(values, truth, drawn)
    for column in range(2):
        rows = np.repeat(np.arange(31), drawn[:, column].astype(int))
        texts = [[*written, ""][row] for row in rows], [[[*real, "a b"][row]] for row in rows]
        assert found[column] == pytest.approx(100 * float(bleu_score(*texts)), rel=1e-5)
    assert np.isnan(found[2])
    equal = [np.c_[some, [0.0]] for some in word_counts(["A b c d"], ["a B c d"])]
    assert corpus_bleu(*equal, np.ones((1, 1))) == pytest.approx(100)
    scores = rouge_l(["sinus rhythm", "", "a b c d e"], ["Sinus rhythm", "x", "a b c x e"])
    np.testing.assert_allclose(scores, [100.0, 0.0, 80.0], atol=1e-3)


# ---------------------------------------------------------------------------------------------------------- evaluation


def context_of(folder: Path, model: Model) -> mb.Context:
    task, signals = made_task("made/first", records=160)
    held = {"made": MadeRecords(signals, "f")}
    return mb.Context("m", lambda: model, held, lambda _: task, features=folder, identity="m")


def writing_model() -> Model:
    """Return an encoder of random weights with heads that write letters, not yet trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, text = NormedEncoder(), Letters()
        heads = CATALOGUE.heads["report-writer"].build(widths_of(encoder, text), width=text.width, queries=0)
        return Model(encoder, text, heads)


class Positioned(Letters):
    """Letters that know their place and the letter before them, which a decoder needs to spell."""

    def forward(self, batch: mb.TextBatch) -> mb.Features:
        features = super().forward(batch)
        assert features.tokens is not None
        place = torch.arange(features.tokens.shape[1])[:, None] / 4.0 ** torch.arange(self.width // 2)
        return features.apply({"tokens": features.tokens + torch.cat([place.sin(), place.cos()], dim=1)})


def test_a_decoder_that_learnt_reports_writes_what_is_true(tmp_path: Path) -> None:
    model = writing_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model.text_encoder = Positioned()
    context = context_of(tmp_path, model)
    (row,) = Captioning(most_words=24).expand(["made/first"])
    before = measure(Captioning(most_words=24, beams=2).run(context, row), METRICS, Interval(resamples=10))
    task = context.task("made/first")
    train = task.parts[0].train
    signals, batch = context.signals(task, train), model.text_encoder.tokenize([task.reports[i] for i in train])
    model.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(90):
        text = model.text(batch)
        states = model.heads.next_words(model.ecg(signals), text)[:, :-1]
        logits = states @ model.text_encoder.word_table().T
        loss = F.cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), ignore_index=0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    fresh = context_of(tmp_path / "after", model)
    with fresh.guarding("captioning"):
        found = Captioning(most_words=24, beams=2).run(fresh, row)
    after = measure(found, METRICS, Interval(resamples=10))
    assert after.scores["report-f1"].value > max(0.8, before.scores["report-f1"].value + 0.3)
    assert after.scores["bleu"].value > 50 > before.scores["bleu"].value
    assert after.details["agreement_of_real_reports"] == 1.0
    assert found.classes[3:] == COLUMNS


def test_a_model_that_cannot_write_is_not_applicable_and_options_are_checked(tmp_path: Path) -> None:
    (row,) = Captioning().expand(["made/first"])
    mute = made_model()
    mute.heads = None
    with pytest.raises(NotApplicable, match="needs heads with a decoder"):
        Captioning().run(context_of(tmp_path, mute), row)
    context = context_of(tmp_path, made_model())
    silent = replace(context.task("made/first"), reports=(" ",) * 160)
    context._find = lambda _: silent
    context._tasks.clear()
    with pytest.raises(NotApplicable, match="has a report"):
        Captioning().run(context, row)
    with pytest.raises(UserError, match="beams = 0"):
        Captioning(beams=0)
