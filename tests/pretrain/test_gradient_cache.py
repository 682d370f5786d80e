"""Parts of a batch: their loss and gradient are the whole batch's, for every objective there is."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from every_objective import BATCH, NAMES, draws, step_of
from short_training import Killed, assert_same, train
from tiny_method import make_source, make_step
from torch import Tensor, nn

from melp_bench.pretrain.distributed import total_loss
from melp_bench.pretrain.engine import Engine
from melp_bench.pretrain.gradient_cache import Parts, cached_loss, norm_by_batch
from melp_bench.pretrain.loop import Trained
from melp_bench.pretrain.randomness import seed_step
from melp_bench.pretrain.step import Batch, Step
from melp_bench.runs.training import make_fabric
from melp_bench.store import Store

CPU = torch.device("cpu")


def doubled(batch: Batch) -> Batch:
    """Return the batch in double precision."""
    signal, labels = batch.signal, batch.labels
    assert signal is not None
    assert labels is not None
    parts = {part: tensor.double() for part, tensor in batch.parts.items()}
    return Batch(signal.double(), batch.reports, labels.double(), batch.patients, parts)


def gradients(step: Step) -> dict[str, Tensor]:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in step.named_parameters()}


def in_parts(step: Step, batch: Batch, size: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return each term's value, and the gradient of every parameter, with parts of `size` records."""
    generator, fabric = torch.Generator(), make_fabric("cpu", "32")
    weights = dict.fromkeys(step.objectives, 2.0)
    step.zero_grad()
    parts = Parts(batch, size, partial(seed_step, generator, 0, 0, 0), generator, None, 0.25)
    total, values, finish = cached_loss(step, parts, weights, fabric)
    total.backward()
    finish()
    return values, gradients(step)


@pytest.mark.parametrize("name", NAMES)
def test_parts_have_the_loss_and_the_gradient_of_the_whole_batch(store: Store, name: str) -> None:
    step = step_of(name)
    source = make_source(store, step)
    batch = source.batch(source.train[:BATCH], CPU)
    if not draws(name):  # what compares records; masked prediction need not know of double precision
        step, batch = step.double(), doubled(batch)
    before = copy.deepcopy(step.state_dict())
    found, parted = in_parts(step, batch, 5)  # 5 + 5 + 2
    step.load_state_dict(before)  # a centre that follows in the forward pass has moved
    if draws(name):  # each part draws for its own records: the whole is what the parts are one by one
        values, wanted = one_by_one(step, batch, 5)
    else:
        step.zero_grad()
        total, values = total_loss(step(batch, torch.Generator(), None, 0.25), {name: 2.0}, make_fabric("cpu", "32"))
        total.backward()
        wanted = gradients(step)
    assert found[name] == pytest.approx(values[name], rel=1e-5)  # both are told in single precision
    assert any(gradient.abs().max() > 1e-6 for gradient in wanted.values())
    near = {"rtol": 1e-3, "atol": 1e-6} if draws(name) else {"rtol": 1e-8, "atol": 1e-11}
    for parameter, gradient in wanted.items():
        torch.testing.assert_close(parted[parameter], gradient, msg=lambda m, p=parameter: f"{p}: {m}", **near)


def one_by_one(step: Step, batch: Batch, size: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return the same of an objective that compares no records: a mean over all that its parts count."""
    generator, (name,) = torch.Generator(), step.objectives
    step.zero_grad()
    terms = []
    for number, piece in enumerate(batch.pieces(size)):
        seed_step(generator, 0, 0, 0, number)
        terms.append(step(piece, generator, None, 0.25)[name])
    count = sum(float(count) for _, count in terms)
    whole = sum((mean * (float(n) / count) for mean, n in terms), torch.zeros(()))
    (2.0 * whole).backward()
    return {name: whole.item()}, gradients(step)


def test_three_terms_that_share_features_have_the_gradient_of_the_whole_batch_too(store: Store) -> None:
    step = make_step(dropout=0.0).double()
    source = make_source(store, step)
    batch = doubled(source.batch(source.train[:BATCH], CPU))
    values, parted = in_parts(step, batch, 4)
    step.zero_grad()
    total, wanted = total_loss(step(batch, torch.Generator()), dict.fromkeys(values, 2.0), make_fabric("cpu", "32"))
    total.backward()
    assert values == pytest.approx(wanted)
    for name, gradient in gradients(step).items():
        torch.testing.assert_close(parted[name], gradient, rtol=1e-8, atol=1e-11)


def test_what_is_random_is_drawn_alike_in_both_passes(store: Store) -> None:
    """With dropout, the gradient is that of the very features the loss was of: two calls agree in every bit."""
    step = make_step(dropout=0.5)
    source = make_source(store, step)
    batch = source.batch(source.train[:BATCH], CPU)
    one, two = in_parts(step, batch, 4), in_parts(step, batch, 4)
    assert one[0] == two[0]
    assert all(torch.equal(one[1][name], two[1][name]) for name in one[1])
    whole_in_one = in_parts(make_step(dropout=0.5), batch, BATCH)
    assert whole_in_one[0] != one[0], "each part draws for itself"


def test_running_statistics_are_counted_once_and_are_of_a_part(store: Store) -> None:
    step = make_step(dropout=0.0)
    assert norm_by_batch(step) is None
    norm = nn.BatchNorm1d(12)
    step.model.encoder.patch = nn.Sequential(norm, step.model.encoder.patch)  # type: ignore[assignment]
    assert norm_by_batch(step) == "encoder.patch.0"
    source = make_source(store, step)
    batch = source.batch(source.train[:BATCH], CPU)
    in_parts(step, batch, 4)
    assert int(norm.num_batches_tracked) == 3  # type: ignore[arg-type]
    follows = nn.BatchNorm1d(12)
    for piece in batch.pieces(4):
        follows(piece.signal)
    torch.testing.assert_close(norm.running_var, follows.running_var)


def test_a_training_in_parts_is_resumed_in_the_same_bits_and_learns_the_same(
    store: Store, undisturbed: tuple[Step, Trained], tmp_path: Path
) -> None:
    engine, plain = Engine(micro_batch=3), train(store, tmp_path / "whole", engine=Engine(micro_batch=8))
    assert_same(plain, undisturbed)  # what fits into one part is made as it always was
    once = train(store, tmp_path / "once", engine=engine)
    with pytest.raises(Killed):
        train(store, tmp_path / "twice", engine=engine, die_after=5)
    assert_same(train(store, tmp_path / "twice", engine=engine), once)
    assert once[1].best_loss == pytest.approx(undisturbed[1].best_loss, rel=0.05)
