"""What a published model has seen marks its rows: ECG-JEPA's in a run on real records, and others' by what they declare."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import melp_bench as mb
from melp_bench.board.leakage import leaks
from melp_bench.cli import _run as run_command
from melp_bench.plugins import discover
from melp_bench.protocol import Protocol
from melp_bench.results import ResultRecord
from melp_plugins.ecg.ecg_jepa import ECGJEPA

REAL, MORE = os.environ.get("MELP_BENCH_REAL_ECG"), os.environ.get("MELP_BENCH_MORE_ECG")
pytestmark = pytest.mark.skipif(not (REAL and MORE), reason="set MELP_BENCH_REAL_ECG and MELP_BENCH_MORE_ECG to real records")
CATALOGUE = discover()
SOURCES = {
    "ptb-xl": (REAL, "ptb-xl", "super"),
    "code-15": (REAL, "code-15/ecg-fm-sample10", "all"),
    "cpsc2018-sample": (MORE, "cpsc2018", "all"),
    "csn-sample": (MORE, "chapman-ningbo", "published"),
}
PROTOCOL = Protocol.model_validate(
    {
        "name": "seen",
        "revision": 1,
        "summary": "for tests",
        "datasets": {name: {"dataset": name, "split": "cross-validate"} for name in SOURCES},
        "interval": {"resamples": 10},
        "evaluations": [{"name": "knn", "tasks": [f"{name}/{task}" for name, (_, _, task) in SOURCES.items()]}],
    }
)
CHALLENGE = {"ptb-xl", "ptb-xl-challenge", "ptb-xl-sample", "cpsc2018", "cpsc2018-sample", "g12ec", "csn", "csn-sample"}
CHALLENGE |= {"ptb-diagnostic", "chapman", "ningbo"}
SEEN: dict[str, set[str]] = {
    "ecg-jepa": {"csn", "csn-sample", "chapman", "ningbo", "code-15"},
    "ecg-fm": CHALLENGE | {"mimic-iv-ecg"},
    "ecg-jepa-weimann-base": CHALLENGE | {"mimic-iv-ecg", "code-15"},
    "ecgfounder": set(),
}
"""Of the datasets that a row may be of, those whose records a model has seen."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ResultRecord]]:
    """Return a row per dataset of a small ECG-JEPA whose weights come from a file, as a published model's do."""
    root = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    torch.save({"encoder": ECGJEPA(depth=1, width=48).state_dict(), "epoch": 99}, root / "multiblock.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELP_BENCH_HOME", str(root))
        for name, (folder, below, _) in SOURCES.items():
            assert run_command(["data", "prepare", name, "--from", str(Path(str(folder)) / below)], verbose=False) == 0
        result = mb.run(PROTOCOL, [f"ecg-jepa@{root / 'multiblock.pth'}"], out=root / "board")
        yield {record.task.partition("/")[0]: record for record in result.rows}


def test_ecg_jepa_is_marked_on_its_corpora_and_clean_on_ptb_xl_and_cpsc2018(
    rows: dict[str, ResultRecord],
) -> None:
    assert {name: leaks(record) for name, record in rows.items()} == {
        "ptb-xl": [],
        "code-15": ["code-15"],
        "cpsc2018-sample": [],
        "csn-sample": ["csn-sample"],
    }
    for record in rows.values():
        assert record.status == "scored"
        assert record.facts["corpora"] == ["csn", "code-15"]
        assert record.facts["overlap"]["checked"] is False  # nobody here has the corpus: it is as its author says


@pytest.mark.parametrize("model", list(SEEN))
def test_a_models_declared_corpora_mark_every_dataset_that_they_contain(model: str, rows: dict[str, ResultRecord]) -> None:
    with torch.device("meta"):
        encoder = CATALOGUE.ecg_encoders[model].build()
    assert encoder.corpora_source
    record = next(iter(rows.values()))
    facts = record.facts | {"corpora": list(encoder.corpora)}
    names = CHALLENGE | {"mimic-iv-ecg", "code-15", "code-test", "ludb", "sami-trop"}
    marked = {name for name in names if leaks(record.model_copy(update={"task": f"{name}/all", "facts": facts}))}
    assert marked == SEEN[model]
