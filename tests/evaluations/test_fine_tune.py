"""Fine-tuning: what learns, what does not, and that the model under test is another one afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.errors import UserError
from melp_bench.measure import measure
from melp_bench.model import Model
from melp_bench.plugins import discover
from melp_bench.results import Interval
from melp_bench.splits import cross_validation
from melp_bench.testing.evaluations import MadeRecords, made_model, made_task
from melp_plugins.evaluations.fine_tune import FineTune, Network, layers_of, rates_of

METRICS = tuple(discover().metrics[name].build() for name in ("auroc", "auprc"))


TEACHABLE = FineTune(epochs=12, learning_rate=1e-2, head_learning_rate=3e-2)


def context(folder: Path, model: Model | None = None, *, records: int = 120, folds: int = 0) -> mb.Context:
    """Return a context of one task, a holdout, or a cross-validation of some `folds`."""
    task, signals = made_task("made/first", records=records)
    if folds:
        task = replace(task, parts=cross_validation(np.arange(records) // 2 % folds + 1))
    given = model or made_model(text=False)
    held = {"made": MadeRecords(signals, "f")}
    return mb.Context("m", lambda: given, held, lambda _: task, features=folder, identity="m")


def predict(evaluation: FineTune, given: mb.Context) -> mb.Predictions:
    (row,) = evaluation.expand(["made/first"])
    with given.guarding("fine_tune"):
        return evaluation.run(given, row)


@pytest.mark.parametrize("folds", [0, 3])
def test_what_can_be_seen_in_the_signal_is_learnt(tmp_path: Path, folds: int) -> None:
    made = predict(TEACHABLE, context(tmp_path, records=160, folds=folds))
    outcome = measure(made, METRICS, Interval(resamples=20))
    assert outcome.scores["auroc"].value > 0.85
    assert len(made.record_ids) == (160 if folds else 16)


def test_the_model_under_test_is_the_same_bit_by_bit_and_a_copy_is_not(tmp_path: Path) -> None:
    given = context(tmp_path)
    before = {name: tensor.clone() for name, tensor in given.model.state_dict().items()}
    predict(FineTune(epochs=1), given)
    assert all(torch.equal(tensor, before[name]) for name, tensor in given.model.state_dict().items())


class Stack(mb.ECGEncoder):
    """Five layers out of order of their names, one of which nothing passes; a norm follows the second."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.width = mb.SignalSpec(rate_hz=100.0, seconds=2.0), 6
        self.z_first, self.a_last = nn.Conv1d(12, 6, 5), nn.Linear(6, 6)
        self.middle, self.norm, self.unused = nn.Conv1d(6, 6, 3), nn.BatchNorm1d(6), nn.Linear(3, 3)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, signal: Tensor) -> mb.Features:
        tokens = self.norm(self.middle(self.z_first(signal)).relu()).transpose(1, 2)[:, ::20]
        mixed, _ = self.attention(tokens, tokens, tokens)
        record = self.a_last(mixed.mean(dim=1))
        return mb.Features(record=record, embedding=record, tokens=mixed)


def test_layers_are_counted_in_the_order_in_which_a_record_passes_them() -> None:
    encoder = Stack()
    names = {id(weight): name for name, weight in encoder.named_parameters()}
    layers = [[names[id(weight)] for weight in layer] for layer in layers_of(encoder, torch.zeros(2, 12, 200))]
    assert layers == [
        ["z_first.weight", "z_first.bias"],
        ["middle.weight", "middle.bias", "norm.weight", "norm.bias"],
        ["attention.in_proj_weight", "attention.in_proj_bias", "attention.out_proj.weight", "attention.out_proj.bias"],
        ["a_last.weight", "a_last.bias"],
    ]


def test_the_last_n_layers_learn_and_the_others_stay_with_their_statistics() -> None:
    encoder, signals = Stack(), made_task("made/first")[1][:16]
    network = Network(encoder, 3, 2, signals)
    network.learn()
    assert network.num_tuned == sum(w.numel() for w in [*encoder.attention.parameters(), *encoder.a_last.parameters()]) + 7 * 3
    optimizer = torch.optim.SGD([weight for weight in network.parameters() if weight.requires_grad], lr=0.1)
    nn.init.normal_(network.head.weight)
    network(signals).square().mean().backward()
    optimizer.step()
    was, now = encoder.state_dict(), network.encoder.state_dict()
    moved = {name.partition(".")[0] for name in was if not torch.equal(was[name], now[name])}
    assert moved == {"attention", "a_last"}


def test_each_layer_learns_at_its_share_of_the_rate_of_the_layer_behind_it() -> None:
    """The first step of Adam moves a weight by its rate, whatever its gradient: layer by layer what it moved tells the rate."""
    encoder, signals = Stack(), made_task("made/first")[1][:16]
    network = Network(encoder, 3, 0, signals)
    nn.init.normal_(network.head.weight)
    optimizer = torch.optim.AdamW(rates_of(network.groups, 1e-3, 0.5), weight_decay=0.0, eps=1e-20)
    network(signals).square().mean().backward()
    optimizer.step()
    was, now = encoder.state_dict(), network.encoder.state_dict()
    moved = [float((now[f"{n}.weight"] - was[f"{n}.weight"]).abs().max()) for n in ("z_first", "middle", "a_last")]
    assert moved == pytest.approx([1.25e-4, 2.5e-4, 1e-3], rel=1e-2)


def test_rates_that_fall_move_a_row(tmp_path: Path) -> None:
    given = context(tmp_path)
    flat, falling = (predict(FineTune(epochs=1, layer_decay=decay), given) for decay in (1.0, 0.5))
    assert not np.array_equal(flat.scores, falling.scores)
    (row,) = FineTune(layer_decay=0.75).expand(["s/x"])
    assert (row.setting, row.options["layer_decay"]) == ("all layers, rates fall by 0.75", 0.75)


def test_with_no_learning_rate_only_the_head_learns_and_its_logits_are_linear_in_the_embedding(tmp_path: Path) -> None:
    given = context(tmp_path)
    made = predict(FineTune(learning_rate=0.0, weight_decay=0.0), given)
    task = given.task("made/first")
    embedding = given.features(task).embedding[task.scored].double().numpy()
    design = np.c_[embedding, np.ones(len(embedding))]
    solved, *_ = np.linalg.lstsq(design, made.scores[0], rcond=None)
    everything = made.validation[0][0] if made.validation is not None else np.zeros(0)
    part = task.parts[0]
    beside = np.c_[given.features(task).embedding[part.validation].numpy(), np.ones(len(part.validation))] @ solved
    if len(design) >= design.shape[1]:
        np.testing.assert_allclose(beside, everything, atol=1e-3)
    np.testing.assert_allclose(design @ solved, made.scores[0], atol=1e-4)


def test_the_epoch_is_chosen_on_validation(tmp_path: Path) -> None:
    given = context(tmp_path)
    details = predict(FineTune(epochs=4, learning_rate=1e-3), given).details
    (epoch,), (quality,) = details["chosen_epochs"], details["validation"]
    assert 1 <= epoch <= 4
    shorter = predict(FineTune(epochs=4, learning_rate=1e-3, seeds=(0, 1)), given)
    assert shorter.details["validation"][0] == quality
    assert shorter.scores.shape[0] == 2


def test_a_row_says_what_was_tuned_and_options_are_checked() -> None:
    assert [row.setting for row in FineTune(layers=2).expand(["s/x"])] == ["last 2 layers"]
    (every,), (last,) = FineTune().expand(["s/x"]), FineTune(layers=1).expand(["s/x"])
    assert every.setting == "all layers"
    assert every.options != last.options
    for wrong in ({"layers": -1}, {"epochs": 0}, {"batch_size": 0}, {"seeds": ()}, {"layer_decay": 0.0}):
        with pytest.raises(UserError, match="fine_tune"):
            FineTune(**wrong)  # type: ignore[arg-type]
