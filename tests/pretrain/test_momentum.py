"""A target that follows the encoder, through the loop: killed and resumed it ends in the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_loop import BUDGET, Killed
from tiny_method import OPTIMISER, make_source, make_step, make_store
from torch import nn

from melp_bench.plugins import discover
from melp_bench.pretrain.loop import Trained, pretrain
from melp_bench.pretrain.step import Step
from melp_bench.progress import StepValues
from melp_bench.runs import training
from melp_bench.runs.training import make_fabric
from melp_bench.store import Store
from melp_plugins.objectives.byol import BYOL


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("stores") / "corpus")


def train(store: Store, folder: Path, *, die_after: int = 0) -> tuple[Step, Trained]:
    """Pretrain a new model by BYOL, DINO and CMSC; with `die_after`, die once that step is done."""
    catalogue, sizes = discover().objectives, make_step({}).model.sizes(2)
    torch.manual_seed(1)
    objectives = {
        "byol": catalogue["byol"].build(sizes, hidden=16, projected=8),
        "dino": catalogue["dino"].build(sizes, hidden=16, bottleneck=8, prototypes=12),
        "halves": catalogue["cmsc"].build(sizes),
    }
    step = make_step(objectives)

    def die(values: StepValues) -> None:
        if die_after and values.step == die_after and values.part == "train":
            raise Killed

    weights, source = dict.fromkeys(objectives, 1.0), make_source(store, step)
    fabric = make_fabric("cpu", "32")
    trained = pretrain(step, weights, source, budget=BUDGET, optimiser=OPTIMISER, fabric=fabric, folder=folder, listeners=[die])
    return step, trained


@pytest.fixture(scope="module")
def undisturbed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Step, Trained]:
    return train(store, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("deaths", [[2], [4], [5, 9, 14]])
def test_a_killed_and_resumed_target_ends_in_the_same_bits(
    store: Store, undisturbed: tuple[Step, Trained], tmp_path: Path, deaths: list[int]
) -> None:
    for death in deaths:
        with pytest.raises(Killed):
            train(store, tmp_path, die_after=death)
    step, trained = train(store, tmp_path)
    mine, other = step.state_dict(), undisturbed[0].state_dict()
    assert trained == undisturbed[1]
    assert mine.keys() == other.keys()
    assert any("target_encoder" in name for name in mine)
    assert mine["objectives.dino.centre"].any()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_the_last_weights_are_left_where_an_objective_says_so(undisturbed: tuple[Step, Trained]) -> None:
    assert undisturbed[1].best_step == BUDGET.steps


def test_a_target_is_near_the_encoder_and_is_not_it(undisturbed: tuple[Step, Trained]) -> None:
    step = undisturbed[0]
    byol = step.get_submodule("objectives.byol.target_encoder")
    pairs = list(zip(byol.parameters(), step.model.encoder.parameters(), strict=True))
    assert any(not torch.equal(slow, fast) for slow, fast in pairs)
    fresh = make_step({}).model.encoder
    moved = sum((slow - start).abs().sum() for slow, start in zip(byol.parameters(), fresh.parameters(), strict=True))
    ahead = sum((fast - start).abs().sum() for (_, fast), start in zip(pairs, fresh.parameters(), strict=True))
    assert 0 < moved < ahead


class Teacher(BYOL):
    """Keeps the target in the encoder's place."""

    def exported(self) -> nn.Module | None:
        return self.target_encoder


def test_a_teacher_is_what_is_kept_where_an_objective_says_so() -> None:
    sizes = make_step({}).model.sizes(2)
    objective = Teacher(sizes, hidden=8, projected=4, momentum=0.5)
    step = make_step({"teacher": objective})
    with torch.no_grad():
        for parameter in step.model.encoder.parameters():
            parameter.add_(1.0)
    objective.after_step(0.0)
    teacher = {name: tensor.clone() for name, tensor in objective.target_encoder.state_dict().items()}
    student = {name: tensor.clone() for name, tensor in step.model.encoder.state_dict().items()}
    training._export(step)
    kept = step.model.encoder.state_dict()
    assert kept.keys() == teacher.keys()
    assert all(torch.equal(kept[name], teacher[name]) for name in kept)
    assert not any(torch.equal(kept[name], student[name]) for name in kept)
