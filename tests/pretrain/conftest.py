"""What several files of these tests begin from."""

from __future__ import annotations

import pytest
from short_training import train
from tiny_method import make_store

from melp_bench.pretrain.loop import Trained
from melp_bench.pretrain.step import Step
from melp_bench.store import Store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store of sixty records of noise."""
    return make_store(tmp_path_factory.mktemp("stores") / "corpus")


@pytest.fixture(scope="session")
def undisturbed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Step, Trained]:
    """Return what a training leaves that nothing disturbs."""
    return train(store, tmp_path_factory.mktemp("undisturbed"))
