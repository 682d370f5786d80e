"""The loop: killed and resumed it ends in the same bits; it keeps the best weights; it stops at NaN."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from short_training import BUDGET, WEIGHTS, Killed, assert_same, train
from tiny_method import OPTIMISER, make_source, make_step, make_store
from torch import Tensor

import melp_bench as mb
from melp_bench.errors import UserError
from melp_bench.pretrain import loop, state
from melp_bench.pretrain.loop import NonFiniteLoss, Trained, pretrain
from melp_bench.pretrain.prefetch import prefetched
from melp_bench.pretrain.reports import TokenisedReports
from melp_bench.pretrain.source import PretrainSource
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.validation import VALIDATION_RECORDS, validation_loss, validation_sample
from melp_bench.progress import StepValues
from melp_bench.runs.training import make_fabric
from melp_bench.store import Store


@pytest.mark.parametrize("deaths", [[2], [3], [4], [8], [14], [4, 7, 11]])
def test_a_killed_and_resumed_run_ends_in_the_same_bits(
    store: Store, undisturbed: tuple[Step, Trained], tmp_path: Path, deaths: list[int]
) -> None:
    for death in deaths:
        with pytest.raises(Killed):
            train(store, tmp_path, die_after=death)
    assert_same(train(store, tmp_path), undisturbed)


def test_a_finished_run_is_not_run_again(store: Store, undisturbed: tuple[Step, Trained], tmp_path: Path) -> None:
    train(store, tmp_path)
    assert_same(train(store, tmp_path, die_after=1), undisturbed)


def test_the_weights_that_are_left_are_those_of_the_lowest_validation_loss(
    store: Store, undisturbed: tuple[Step, Trained]
) -> None:
    step, trained = undisturbed
    totals = trained.history["total"]
    assert trained.history["step"] == [3, 6, 9, 12, 14]
    assert trained.best_loss == min(totals)
    assert trained.best_step == trained.history["step"][totals.index(min(totals))]
    again = validation_loss(step, WEIGHTS, make_source(store, step), budget=BUDGET, fabric=make_fabric("cpu", "32"))
    assert sum(WEIGHTS[n] * v for n, v in again.items()) == pytest.approx(trained.best_loss, rel=1e-6)


def test_selection_takes_the_lowest_and_of_equals_the_first() -> None:
    trained = Trained()
    kept = [loop._record(trained, i, {"a": 0.0}, {"a": loss}, {"a": 2.0}) for i, loss in enumerate([3.0, 1.0, 1.0, 2.0, 0.5])]
    assert kept == [True, True, False, False, True]
    assert (trained.best_step, trained.best_loss) == (4, 1.0)
    assert trained.history["total"] == [6.0, 2.0, 2.0, 4.0, 1.0]


def test_a_validation_loss_is_the_same_every_time_and_leaves_training_mode(store: Store) -> None:
    step = make_step(dropout=0.5)
    source, fabric = make_source(store, step), make_fabric("cpu", "32")
    first, second = (validation_loss(step, WEIGHTS, source, budget=BUDGET, fabric=fabric) for _ in range(2))
    assert first == second
    assert step.training


class Breaks(mb.Objective):
    """Falls by itself, and becomes `value` in a step of training or in validation."""

    scale: ClassVar[str] = "rhythm"

    def __init__(self, value: float, at: int, *, in_eval: bool = False) -> None:
        super().__init__()
        self.value, self.at, self.in_eval, self.calls = value, at, in_eval, 0

    def forward(self, ecg: mb.Features) -> Tensor:
        self.calls += self.training
        broken = (self.calls == self.at) if self.training else self.in_eval
        return ecg.record.square().mean() * (self.value if broken else 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(store: Store, tmp_path: Path, value: float) -> None:
    step = make_step({"fine": Breaks(1.0, 0), "odd": Breaks(value, 5)})
    source, fabric, weights = make_source(store, step), make_fabric("cpu", "32"), {"fine": 1.0, "odd": 1.0}
    with pytest.raises(NonFiniteLoss, match=rf"training loss of step 5: odd is {value};") as told:
        pretrain(step, weights, source, budget=BUDGET, optimiser=OPTIMISER, fabric=fabric, folder=tmp_path)
    assert "fine is" not in str(told.value)
    assert state.load_state(tmp_path, "last", stage="pretrain", module=make_step({}), fabric=fabric)["step"] == 3


def test_a_validation_loss_that_is_not_finite_stops_the_run(store: Store, tmp_path: Path) -> None:
    step = make_step({"odd": Breaks(math.nan, 0, in_eval=True)})
    source, fabric = make_source(store, step), make_fabric("cpu", "32")
    with pytest.raises(NonFiniteLoss, match="validation loss of step 3: odd is nan"):
        pretrain(step, {"odd": 1.0}, source, budget=BUDGET, optimiser=OPTIMISER, fabric=fabric, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_half_precision_trains_too(store: Store, tmp_path: Path, undisturbed: tuple[Step, Trained]) -> None:
    step, trained = train(store, tmp_path, precision="bf16")
    assert trained.best_loss == pytest.approx(undisturbed[1].best_loss, rel=0.05)
    assert {p.dtype for p in step.parameters()} == {torch.float32}


def test_what_is_conformed_is_the_same_bits_whatever_was_asked_for_first(store: Store) -> None:
    step = make_step({})
    one, two = make_source(store, step), make_source(store, step)
    cpu = torch.device("cpu")
    everything = one.batch(one.train, cpu).signal
    for i in reversed(range(len(two.train))):
        assert torch.equal(two.batch(two.train[i : i + 1], cpu).signal[0], everything[i])
    torch.testing.assert_close(everything, store.batch(one.train, one.spec))


def test_pretraining_never_reads_the_test_fold(store: Store) -> None:
    source = make_source(store, make_step({}))
    assert set(store.folds[source.train]) == set(range(1, 9))
    assert set(store.folds[source.validation]) == {9}


def test_a_corpus_without_validation_records_is_refused(tmp_path: Path) -> None:
    small = make_store(tmp_path / "small", num_records=8)
    with pytest.raises(UserError, match="no record in fold 9"):
        PretrainSource(small, make_step({}).model.encoder.spec, None)


def test_an_objective_that_asks_for_what_there_is_not_is_named() -> None:
    class Odd(mb.Objective):
        def forward(self, ecg: mb.Features, weather: Tensor) -> Tensor:
            return ecg.record.mean()

    with pytest.raises(UserError, match=r"'Odd' asks for \['weather'\]"):
        make_step({"odd": Odd()})


class Steep(mb.Objective):
    """A finite loss whose gradient is infinite in one step: the root of something that is 0 there."""

    scale: ClassVar[str] = "rhythm"

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, ecg: mb.Features) -> Tensor:
        self.calls += self.training
        value = ecg.record.square().mean()
        return (value - value.detach()).sqrt() + 1 if self.calls == self.at and self.training else value


def test_an_infinite_gradient_of_a_finite_loss_is_named_with_its_step(store: Store, tmp_path: Path) -> None:
    step = make_step({"steep": Steep(5)})
    before = {name: tensor.clone() for name, tensor in step.state_dict().items()}
    source, fabric = make_source(store, step), make_fabric("cpu", "32")
    named = r"the gradient of step 5 is (inf|nan) at 'model.encoder.patch.weight' and in \d of \d parameters, and its loss is"
    with pytest.raises(NonFiniteLoss, match=named):
        pretrain(step, {"steep": 1.0}, source, budget=BUDGET, optimiser=OPTIMISER, fabric=fabric, folder=tmp_path)
    assert all(torch.isfinite(tensor).all() for tensor in step.state_dict().values())  # no step was made with it
    assert any(not torch.equal(before[name], tensor) for name, tensor in step.state_dict().items())


def test_the_values_of_a_step_are_its_own(store: Store, tmp_path: Path) -> None:
    told: list[StepValues] = []
    step = make_step()
    source, fabric = make_source(store, step), make_fabric("cpu", "32")
    options = {"budget": BUDGET, "optimiser": OPTIMISER, "fabric": fabric, "folder": tmp_path}
    trained = pretrain(step, WEIGHTS, source, stage="one", listeners=[told.append], **options)
    assert told[0] == StepValues("one", "begin", 0, 14, {}, 0.0)
    training = [values for values in told if values.part == "train"]
    assert [values.step for values in training] == list(range(1, 15))
    assert all(v.total == pytest.approx(sum(WEIGHTS[n] * x for n, x in v.terms.items())) for v in training)
    rates = [values.learning_rate for values in training]
    assert max(rates) == pytest.approx(OPTIMISER.learning_rate)
    assert rates[-1] == pytest.approx(OPTIMISER.learning_rate * OPTIMISER.final_fraction)
    found = [(v.step, v.total) for v in told if v.part == "validation"]
    assert [step for step, _ in found] == [0, 3, 6, 9, 12, 14]
    assert [total for _, total in found[1:]] == trained.history["total"]
    assert trained.before == told[1].terms


class LastIsKept(Breaks):
    """An objective whose validation loss does not tell how good its encoder is."""

    keep: ClassVar[Literal["lowest", "last"]] = "last"

    def __init__(self) -> None:
        super().__init__(1.0, 0)
        self.done: list[float] = []

    def forward(self, ecg: mb.Features) -> Tensor:
        return super().forward(ecg) if self.training else ecg.record.mean() * 0 + self.done[-1]  # rises

    def attach(self, model: object) -> None:
        self.done.append(0.0)

    def after_step(self, progress: float) -> None:
        self.done.append(progress)


def test_an_objective_is_attached_once_told_of_every_step_and_may_keep_the_last_weights(store: Store, tmp_path: Path) -> None:
    objective = LastIsKept()
    step = make_step({"last": objective})
    source, fabric = make_source(store, step), make_fabric("cpu", "32")
    trained = pretrain(step, {"last": 1.0}, source, budget=BUDGET, optimiser=OPTIMISER, fabric=fabric, folder=tmp_path)
    assert objective.done == [0.0, *((i + 1) / 14 for i in range(14))]
    assert trained.best_step == 14
    assert trained.best_loss == trained.history["total"][-1] == max(trained.history["total"])


def test_a_validation_reads_a_fixed_sample_of_many_records() -> None:
    many = np.arange(10_000, 20_000)
    sample = validation_sample(many, seed=3)
    assert len(sample) == len(set(sample.tolist())) == VALIDATION_RECORDS
    assert set(sample.tolist()) <= set(many.tolist())
    assert (np.diff(sample) > 0).all()
    assert np.array_equal(validation_sample(many, seed=3), sample)
    assert not np.array_equal(validation_sample(many, seed=4), sample)
    assert np.array_equal(validation_sample(many[:50], seed=3), many[:50])


def test_reports_that_are_tokenised_once_are_as_they_are_tokenised_in_each_batch(store: Store) -> None:
    text = make_step({}).model.text_encoder
    assert text is not None
    kept = TokenisedReports(text, store.reports, np.arange(len(store))[::-1])
    for positions in ([3], [5, 4, 11, 30], list(range(len(store)))):
        want = text.tokenize([store.reports[i] for i in positions])
        got = kept.batch(np.array(positions), torch.device("cpu"))
        assert torch.equal(got.ids, want.ids)
        assert torch.equal(got.mask, want.mask)
        assert torch.equal(got.sentences, want.sentences)


def test_batches_come_in_order_each_read_once_and_one_ahead() -> None:
    read: list[int] = []

    def batch(positions: np.ndarray) -> int:
        read.append(int(positions[0]))
        return 10 * int(positions[0])

    seen = []
    for step, value, waited in prefetched(batch, lambda step: np.array([step]), range(3, 8)):
        assert len(read) <= len(seen) + 2
        assert waited >= 0
        seen.append((step, value))
    assert seen == [(step, 10 * step) for step in range(3, 8)]
    assert read == list(range(3, 8))
    with pytest.raises(ZeroDivisionError):
        list(prefetched(lambda positions: 1 // int(positions[0]), lambda step: np.array([step]), [1, 0, 2]))
