"""One process, two and three: the same loss, the same gradients, the same curves; and two that share the weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch
from every_objective import BATCH, NAMES, draws, step_of

from melp_bench.errors import UserError
from melp_bench.pretrain.distributed import share
from melp_bench.runs.training import make_fabric
from melp_bench.store import Store

Found = dict[str, Any]
COMPARES_PARTS = {"astcl", "beat", "etm", "gloria", "sentence-contrast", "soft-tags", "ts-tcc"}
"""Objectives that compare parts of records or reports over all ranks, and so send more than one vector of each."""


@pytest.fixture(scope="module")
def folder(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of what all groups of processes computed."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, ranks.__file__, str(store.root), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def one(store: Store, folder: Path) -> Found:
    """Return what one process computes."""
    return ranks.everything(store, folder / "one.state", make_fabric("cpu", "32"))


@pytest.fixture(scope="module", params=ranks.GROUPS)
def several(folder: Path, request: pytest.FixtureRequest) -> tuple[int, Found]:
    """Return how many processes there were, and what they computed."""
    found: Found = torch.load(folder / f"{request.param}.pt", weights_only=True)
    return request.param, found


def test_every_objective_has_the_loss_and_gradients_of_one_process(
    store: Store, one: Found, several: tuple[int, Found]
) -> None:
    """One that draws masks of its own for its own records has the mean over what each rank would make of them."""
    size, found = several
    assert set(found["objectives"]) == set(NAMES)
    for name, mine in found["objectives"].items():
        wanted = ranks.rank_by_rank(name, store, size) if draws(name) else one["objectives"][name]
        assert mine["values"][name] == pytest.approx(wanted["values"][name], rel=1e-5), name
        assert any(g.abs().max() > 1e-4 for g in wanted["gradients"].values()), name
        assert_near(mine["gradients"], wanted["gradients"], name)


def test_contrasts_of_whole_records_send_one_vector_of_a_record_to_a_side(several: tuple[int, Found]) -> None:
    size, found = several
    sent = {name: mine["gathered"] for name, mine in found["objectives"].items()}
    for name in ("rhythm", "cma", "siglip", "ets", "simclr"):
        assert [len(shape) for shape in sent[name]] == [2, 2], name
        assert {shape[0] for shape in sent[name]} == {BATCH // size}, name
    assert [len(shape) for shape in sent["uma"]] == [2]
    assert [len(shape) for shape in sent["cmsc"]] == [1, 2, 2]  # and whose they are
    assert {name for name, shapes in sent.items() if any(len(shape) > 2 for shape in shapes)} == COMPARES_PARTS


def assert_near(mine: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], what: str) -> None:
    """Check that gradients are the same but for the order of sums, in which terms as large as the largest may cancel out."""
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for parameter, gradient in wanted.items():
        torch.testing.assert_close(
            mine[parameter], gradient, rtol=1e-3, atol=3e-6 * max(largest, 1.0), msg=lambda m, p=parameter: f"{what} {p}: {m}"
        )


def test_what_draws_for_its_own_records_never_looks_at_other_ranks() -> None:
    drawing = [name for name in NAMES if draws(name)]
    assert drawing
    for name in drawing:
        assert not step_of(name).objectives[name].needs_global_batch, name


def test_parts_of_each_rank_have_the_gradients_of_one_process_too(one: Found, several: tuple[int, Found]) -> None:
    assert several[1]["parts"]["values"] == pytest.approx(one["parts"]["values"], rel=1e-5)
    assert_near(several[1]["parts"]["gradients"], one["parts"]["gradients"], "parts")


def test_the_curves_of_several_processes_are_those_of_one(one: Found, several: tuple[int, Found]) -> None:
    mine, wanted = several[1]["melp"]["history"], one["melp"]["history"]
    assert set(wanted) == set(mine) >= {"step", "train_rhythm", "rhythm", "beat", "token", "total"}
    for name in wanted:
        assert mine[name] == pytest.approx(wanted[name], rel=2e-3), name


def test_a_target_follows_the_same_on_several_processes(one: Found, several: tuple[int, Found]) -> None:
    mine, wanted = several[1]["views"], one["views"]
    assert set(wanted["history"]) == set(mine["history"]) >= {"step", "train_byol", "byol", "cmsc", "total"}
    for name in wanted["history"]:
        assert mine["history"][name] == pytest.approx(wanted["history"][name], rel=2e-3), name
    followed = [name for name in wanted["weights"] if ".target_" in name]
    assert len(followed) > 5
    for name in followed:
        torch.testing.assert_close(mine["weights"][name], wanted["weights"][name], rtol=1e-3, atol=1e-4)


def test_weights_that_two_processes_share_learn_what_one_learns_and_are_resumed_in_the_same_bits(
    store: Store, folder: Path
) -> None:
    found: Found = torch.load(folder / "sharded.pt", weights_only=True)
    undisturbed, resumed = found["undisturbed"], found["resumed"]
    assert undisturbed["history"] == resumed["history"]
    for name, weight in undisturbed["weights"].items():
        assert torch.equal(weight, resumed["weights"][name]), name
    step, weights = step_of("byol", "rhythm", ema=0.5), ranks.BYOL
    alone = ranks.trained(step, weights, store, folder / "alone", make_fabric("cpu", "32"))
    for name in alone["history"]:
        assert undisturbed["history"][name] == pytest.approx(alone["history"][name], rel=2e-3), name


def test_shared_weights_are_written_whole_after_a_validation_too(folder: Path) -> None:
    state = torch.load(folder / "sharded.state" / "kept" / "last.pt", weights_only=True)
    wanted = step_of("rhythm").state_dict()
    assert set(state["weights"]) == set(wanted)
    assert all(torch.equal(state["weights"][name], weight) for name, weight in wanted.items())
    assert set(state["optimizer"]["state"]) == {name for name, _ in step_of("rhythm").named_parameters()}


def test_shared_weights_and_parts_go_together(one: Found, folder: Path) -> None:
    mine, wanted = torch.load(folder / "sharded.pt", weights_only=True)["parts"]["history"], one["melp"]["history"]
    for name in wanted:
        assert mine[name] == pytest.approx(wanted[name], rel=2e-3), name


def test_one_process_has_nobody_to_share_weights_with() -> None:
    with pytest.raises(UserError, match=r"sharded=true .* there is one; start several by torchrun"):
        make_fabric("cpu", "32", sharded=True)


def test_a_batch_must_divide_over_ranks_and_be_no_larger_than_the_corpus() -> None:
    assert share(64, 4, 1000) == 16
    with pytest.raises(UserError, match="64 does not divide over 3 ranks"):
        share(64, 3, 1000)
    with pytest.raises(UserError, match="63 training records are fewer than one batch of 64"):
        share(64, 2, 63)
