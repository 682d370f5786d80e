"""Shares of a dataset that several ranks embed: joined, they are byte for byte what one process keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ranks_that_embed
import torch

from melp_bench import embedding
from melp_bench.embedding import embed, embed_share, join_shares
from melp_bench.model import Model
from melp_bench.plugins import discover
from melp_bench.runs.run import RunResult, carry_out
from melp_bench.runs.run_spec import make_spec
from melp_bench.testing.evaluations import MadeRecords, made_model, made_task

CPU = torch.device("cpu")
RECORDS = MadeRecords(made_task("made/first")[1], "f")
PROTOCOL = """
name = "tiny"
revision = 1
summary = "for tests"
models = ["random-init+conv-transformer"]

[datasets.synthetic]
dataset = "synthetic"
options = { num_records = 120, seed = 0 }

[pretrain]
dataset = "synthetic"
steps = 2
batch_size = 8

[interval]
resamples = 20

[[evaluations]]
name = "knn"
tasks = ["synthetic/super"]
"""


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def model() -> Model:
    return made_model().eval()


@pytest.fixture(scope="module")
def alone(model: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("alone")
    embed(lambda: model, "m", RECORDS, folder, device=CPU, batch_size=16)
    return kept(folder)


@pytest.mark.parametrize("ranks", [2, 3, 20])
def test_shares_join_to_what_one_process_keeps(ranks: int, model: Model, alone: dict[str, bytes], tmp_path: Path) -> None:
    for rank in reversed(range(ranks)):  # 120 records are 8 batches: of 20 ranks some have none
        assert kept(tmp_path).keys().isdisjoint(alone)
        embed_share(lambda: model, "m", RECORDS, tmp_path, device=CPU, rank=rank, ranks=ranks, batch_size=16)
    join_shares("m", RECORDS, tmp_path, device=CPU, ranks=ranks, batch_size=16)
    assert kept(tmp_path) == alone


def test_a_missing_or_damaged_share_joins_nothing_and_only_that_is_made_again(
    model: Model, alone: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def share(rank: int) -> None:
        embed_share(lambda: model, "m", RECORDS, tmp_path, device=CPU, rank=rank, ranks=2, batch_size=16)

    share(0)
    join_shares("m", RECORDS, tmp_path, device=CPU, ranks=2, batch_size=16)
    assert kept(tmp_path).keys().isdisjoint(alone)
    share(1)
    (path,) = (path for path in tmp_path.iterdir() if "-1-of-2" in path.name)
    path.write_bytes(path.read_bytes()[:-9])
    join_shares("m", RECORDS, tmp_path, device=CPU, ranks=2, batch_size=16)
    assert kept(tmp_path).keys().isdisjoint(alone)
    passed: list[int] = []
    whole = embedding._passed
    monkeypatch.setattr(embedding, "_passed", lambda *a: (passed.append(sum(map(len, a[2]))), whole(*a))[1])
    share(0)
    share(1)
    assert passed == [56]
    join_shares("m", RECORDS, tmp_path, device=CPU, ranks=2, batch_size=16)
    assert kept(tmp_path) == alone
    share(1)
    assert passed == [56]  # the whole is kept


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of what two processes left, in its two homes."""
    folder = tmp_path_factory.mktemp("ranks")
    protocol = folder / "tiny.toml"
    protocol.write_text(PROTOCOL, encoding="utf-8")
    command = [sys.executable, ranks_that_embed.__file__, str(protocol), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def one(homes: Path) -> tuple[dict[str, bytes], RunResult]:
    """Return the features and rows of one process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELP_BENCH_HOME", str(homes / "one"))
        result = carry_out(make_spec(homes / "tiny.toml", out=homes / "one" / "board"), discover())
    torch.set_num_threads(threads)
    return kept(homes / "one" / "features"), result


@pytest.mark.parametrize(
    ("home", "embedded"),
    [("whole", [[64], [56]]), ("one-fails", [[64, 64, 56], []])],
    ids=["both embed", "what one cannot, the first does by itself"],
)
def test_a_run_on_two_ranks_embeds_by_both_and_has_the_rows_of_one(
    home: str, embedded: list[Any], homes: Path, one: tuple[dict[str, bytes], RunResult]
) -> None:
    features, result = one
    assert torch.load(homes / f"{home}.pt", weights_only=True)["embedded"] == embedded
    assert kept(homes / home / "features") == features
    (row,) = result.rows
    path = homes / home / "board" / "results" / "tiny" / f"{row.key}.json"
    again = type(row).model_validate_json(path.read_bytes())
    assert (again.outcome, again.predictions) == (row.outcome, row.predictions)
