"""One process and two: the same loss, the same gradients, the same curves."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import two_ranks
from tiny_method import make_store

from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.pretrain.distributed import share
from melp_bench.runs.training import make_fabric
from melp_bench.testing.objective_subject import called, mean_of, objective_subject


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what one process and what two processes computed."""
    folder = tmp_path_factory.mktemp("ranks")
    store = make_store(folder / "store")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = [two_ranks.__file__, str(store.root), str(folder / "two.pt")]
    done = subprocess.run([*command, *script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    one = two_ranks.everything(store, folder / "one.state", make_fabric("cpu", "32"))
    return one, torch.load(folder / "two.pt", weights_only=True)


def test_every_comparable_objective_has_the_same_loss_on_two_processes(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    one, two = (side["objectives"] for side in both)
    assert (
        set(one)
        == set(two)
        == {entry.name for entry in discover().objectives}
        - {
            *two_ranks.DRAW_MASKS,
            *two_ranks.OF_ONE_ENCODER,
        }
    )
    for name in one:
        assert two[name]["values"][name] == pytest.approx(one[name]["values"][name], rel=1e-5), name


@pytest.mark.parametrize("name", two_ranks.DRAW_MASKS)
def test_an_objective_that_is_left_out_draws_masks_and_never_looks_at_other_ranks(name: str) -> None:
    subject = objective_subject(discover().objectives[name].build)
    values = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        values.add(mean_of(called(subject.objective, subject.inputs())).item())
    assert len(values) == 2
    assert not subject.objective.needs_global_batch


def test_every_comparable_objective_has_the_same_gradients_on_two_processes(
    both: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    one, two = (side["objectives"] for side in both)
    for name in one:
        largest = max(float(gradient.abs().max()) for gradient in one[name]["gradients"].values())
        assert largest > 1e-4, name
        rounding = 2e-6 * max(largest, 1.0)  # of sums of large terms, such as those that cancel out before a batch norm
        for parameter, gradient in one[name]["gradients"].items():
            other, where = two[name]["gradients"][parameter], f"{name} {parameter}"
            torch.testing.assert_close(other, gradient, rtol=1e-3, atol=rounding, msg=lambda m, w=where: w + m)


def test_the_curves_of_two_processes_are_those_of_one(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    one, two = (side["history"] for side in both)
    assert set(one) == set(two) >= {"step", "train_rhythm", "rhythm", "beat", "token", "total"}
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=2e-3), name


def test_a_target_follows_the_same_on_two_processes(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    one, two = (side["views"] for side in both)
    assert set(one["history"]) == set(two["history"]) >= {"step", "train_byol", "byol", "cmsc", "total"}
    for name in one["history"]:
        assert two["history"][name] == pytest.approx(one["history"][name], rel=2e-3), name
    followed = [name for name in one["weights"] if ".target_" in name]
    assert len(followed) > 5
    for name in followed:
        torch.testing.assert_close(two["weights"][name], one["weights"][name], rtol=1e-3, atol=1e-4)


def test_a_batch_must_divide_over_ranks_and_be_no_larger_than_the_corpus() -> None:
    assert share(64, 4, 1000) == 16
    with pytest.raises(UserError, match="64 does not divide over 3 ranks"):
        share(64, 3, 1000)
    with pytest.raises(UserError, match="63 training records are fewer than one batch of 64"):
        share(64, 2, 63)
