"""A stranger's momentum objective with a view of its own: one file, through the same door, trained and resumed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tiny_method import OPTIMISER, make_source, make_step, make_store

from melp_bench.plugins import Catalogue, register
from melp_bench.pretrain.loop import pretrain
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.validation import Budget
from melp_bench.runs.training import make_fabric
from melp_bench.store import Store
from melp_bench.testing import check_component

FILE = Path(__file__).parents[1] / "external" / "melp_bench_external_momentum.py"


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    spec = importlib.util.spec_from_file_location(FILE.stem, FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def catalogue(plugin: ModuleType) -> Catalogue:
    catalogue = Catalogue()
    register(catalogue, plugin, "external-momentum", "melp-bench-external-example")
    return catalogue


def test_it_comes_through_the_door_and_keeps_every_promise(catalogue: Catalogue) -> None:
    for kind, entry in (
        ("objective", catalogue.objectives["external-moco-v3"]),
        ("view", catalogue.views["external-time-shift"]),
    ):
        verdicts = check_component(kind, entry)
        assert all(v.ok for v in verdicts), verdicts


def test_a_shift_in_time_loses_nothing(plugin: ModuleType) -> None:
    signal = torch.randn(6, 12, 50)
    view = plugin.TimeShift()(signal, torch.Generator().manual_seed(0))
    torch.testing.assert_close(view.sort(dim=-1).values, signal.sort(dim=-1).values)
    first = [(signal[i, 0] == view[i, 0, 0]).nonzero().item() for i in range(6)]
    assert all(torch.equal(signal[i].roll(-shift, -1), view[i]) for i, shift in enumerate(first))
    assert len(set(first)) > 1
    assert max(first) < 25


def train(catalogue: Catalogue, store: Store, folder: Path, steps: int = 6) -> Step:
    torch.manual_seed(1)
    step = make_step({"moco": catalogue.objectives["external-moco-v3"].build(make_step({}).model.sizes(2))})
    budget = Budget(steps=steps, batch_size=8, seed=1, validate_every=3)
    source, fabric = make_source(store, step), make_fabric("cpu", "32")
    pretrain(step, {"moco": 1.0}, source, budget=budget, optimiser=OPTIMISER, fabric=fabric, folder=folder)
    return step


def test_it_is_trained_and_its_target_follows(catalogue: Catalogue, tmp_path: Path) -> None:
    step = train(catalogue, make_store(tmp_path / "store"), tmp_path / "state")
    began = make_step({}).model.encoder
    for slow, fast, start in zip(
        step.get_submodule("objectives.moco.slow").parameters(),
        step.model.encoder.parameters(),
        began.parameters(),
        strict=True,
    ):
        assert 0 < (slow - start).norm() < (fast - start).norm()
