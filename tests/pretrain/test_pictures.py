"""The pictures of a pretraining: what sentences look at is the objective's own attention, and curves are those of the log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_method import make_source, make_step, make_store

import melp_bench as mb
from melp_bench.plugins import discover
from melp_bench.pretrain.attention import looks_of, pooling_weights
from melp_bench.pretrain.attention_plot import plot_looks
from melp_bench.pretrain.curves import curves_figure, read_log
from melp_bench.pretrain.step import Step
from melp_bench.progress import StepValues
from melp_bench.runs.pictures import sentences_of
from melp_bench.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("stores") / "corpus")


def batch_of(store: Store, step: Step, number: int = 4) -> tuple[torch.Tensor, mb.TextBatch]:
    batch = make_source(store, step).batch(np.arange(number), torch.device("cpu"))
    assert batch.signal is not None
    assert batch.reports is not None
    return batch.signal, batch.reports


def test_a_sentence_looks_where_the_segments_look_that_it_attends_to(store: Store) -> None:
    step = make_step(dropout=0.3)
    signal, reports = batch_of(store, step)
    looks = looks_of(step, signal, reports)
    step.eval()
    model, beat = step.model, step.objectives["beat"]
    with torch.no_grad():
        ecg, text = model.ecg(signal), model.text(reports)
        tokens, pool = model.encoder(signal).tokens, model.heads.pool
        query = pool.norm_query(pool.query).expand(len(signal), -1, -1)
        _, weights = pool.attention(query, pool.norm_context(tokens), pool.norm_context(tokens), need_weights=True)
        attention = beat.attention(ecg, text)
    for record in range(len(signal)):
        for sentence in range(int(text.segments_mask[record].sum())):
            slow = sum(attention[record, sentence, q] * weights[record, q] for q in range(3))
            assert torch.allclose(looks.time[record, sentence], slow, atol=1e-6)
            assert float(looks.time[record, sentence].sum()) == pytest.approx(1, abs=1e-5)
            assert float(looks.segments[record, sentence].sum()) == pytest.approx(1, abs=1e-5)
    assert not looks.time[~looks.mask].any()
    assert torch.equal(looks.mask, text.segments_mask)


def test_the_attention_is_that_of_the_loss(store: Store) -> None:
    from melp_plugins.objectives.beat import beat_alignment_loss

    step = make_step()
    signal, reports = batch_of(store, step)
    with torch.no_grad():
        ecg, text = step.eval().model.ecg(signal), step.model.text(reports)
        _, wanted = beat_alignment_loss(ecg.segments, text.segments, text.segments_mask)
        assert torch.allclose(step.objectives["beat"].attention(ecg, text), wanted)


def test_looking_leaves_the_model_as_it_was(store: Store) -> None:
    step = make_step()
    signal, reports = batch_of(store, step)
    looks_of(step, signal, reports)
    assert step.training
    layers = [m for m in step.modules() if isinstance(m, torch.nn.MultiheadAttention)]
    assert layers
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    with pytest.raises(RuntimeError), pooling_weights(step):
        raise RuntimeError
    assert not any(layer._forward_hooks for layer in layers)


def test_a_model_whose_sentences_attend_to_nothing_says_so(store: Store) -> None:
    sizes = make_step().model.sizes()
    step = make_step({"rhythm": discover().objectives["rhythm"].build(sizes)})
    with pytest.raises(mb.NotApplicable, match="sentences attend to segments"):
        looks_of(step, *batch_of(store, step))


def test_a_lane_stands_under_the_rhythm_strip_second_under_second() -> None:
    signal = mb.Signal(np.zeros((12, 1000), dtype=np.float32), 100.0)
    time, segments = np.full((2, 40), 1 / 40), np.array([[0.25, 0.75], [0.5, 0.5]])
    figure = plot_looks(signal, ["sinus rhythm", "x" * 400], time, segments, seconds=10.0, title="t")
    paper, first, second = figure.axes
    width = float(figure.get_size_inches()[0]) * 25.4
    left, right = (edge * width for edge in (first.get_position().x0, first.get_position().x1))
    assert left == pytest.approx(8.0 + 12.0)
    assert right - left == pytest.approx(250.0), "ten seconds at 25 mm/s"
    assert 0 < second.get_position().y0 < first.get_position().y0 < first.get_position().y1 < paper.get_position().y0
    assert first.texts[0].get_text() == "sinus rhythm   (most on segment 2 of 2: 75%; darkest 1.0 x even)"
    assert second.texts[0].get_text().endswith("   (evenly on its 2 segments; darkest 1.0 x even)")
    assert len(second.texts[0].get_text()) < 220
    halves = plot_looks(signal, ["a"], time[:1], segments[:1], seconds=20.0)
    assert halves.axes[1].images[0].get_array().shape == (1, 20), "of 20 s the paper shows 10"


def write_log(path: Path) -> None:
    """Write a log of two stages, in which a kill left a step twice and half a line."""
    with path.open("w") as file:
        for stage, steps in (("records", 4), ("alignment", 6)):
            for step in range(1, steps + 1):
                trained = StepValues(stage, "train", step, steps, {"cmsc": 1 / step}, 1 / step, 1e-3, 0.5, 40.0, 0.25)
                file.write(json.dumps(trained.plain()) + "\n")
            found = StepValues(stage, "validation", steps, steps, {"cmsc": 0.5}, 0.5, numbers={"ecg rank": 4.0})
            file.write(json.dumps(found.plain()) + "\n")
        again = StepValues("alignment", "train", 6, 6, {"cmsc": 9.0}, 9.0, 1e-3, 0.5, 40.0, 0.25)
        file.write(json.dumps(again.plain()) + "\n" + '{"stage": "alig')


def test_curves_are_those_of_the_log_over_the_steps_of_all_stages(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl")
    log = read_log(tmp_path / "log.jsonl")
    assert len(log) == 12
    figure = curves_figure(log, title="a_$method")
    terms, validation, rate, gradient, speed, health = figure.axes[:6]
    (line,) = [line for line in terms.lines if line.get_label() == "cmsc"]
    assert line.get_xdata().tolist() == list(range(1, 11))
    assert line.get_ydata().tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 9])
    assert validation.lines[0].get_xdata().tolist() == [4, 10]
    assert health.lines[0].get_ydata().tolist() == [4, 4]
    assert set(rate.lines[0].get_ydata()) == {1e-3}
    assert set(gradient.lines[0].get_ydata()) == {0.5}
    assert set(speed.lines[0].get_ydata()) == {40.0}
    figure.savefig(tmp_path / "curves.png")


def test_sentences_are_named_where_the_report_is_parted_as_the_text_encoder_parts_it() -> None:
    report = "Sinus rhythm. PR 0.12 s. Normal axis"
    assert sentences_of(report, 3) == ["Sinus rhythm", "PR 0.12 s", "Normal axis"]
    assert sentences_of(report, 2) == ["sentence 1", "sentence 2"]
