"""Labels and signals as publications got them wrong: against their own way of making them, and against closed forms."""

from __future__ import annotations

import csv
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from melp_bench.errors import UserError
from melp_bench.evaluations import TaskRecords
from melp_bench.leads import LEADS
from melp_bench.plugins import discover
from melp_bench.protocol import Protocol
from melp_bench.records import Task
from melp_bench.runs.defective_labels import statement_names, with_moved_columns
from melp_bench.runs.prepared_records import prepared
from melp_bench.runs.tasks import task_key, task_records
from melp_bench.signal import Crops, Scaling, SignalSpec, conform
from melp_bench.splits import Positions
from melp_bench.store import Store, prepare
from melp_bench.windows import Windows, conform_windows

MORE = os.environ.get("MELP_BENCH_MORE_ECG")
needs_records = pytest.mark.skipif(not MORE, reason="set MELP_BENCH_MORE_ECG to the folder with chapman-ningbo/")


def protocol(**use: Any) -> Protocol:
    return Protocol.model_validate(
        {"name": "p", "revision": 1, "summary": "", "evaluations": [], "datasets": {"s": {"dataset": "synthetic", **use}}}
    )


# -------------------------------------------------------------------------------------------------------------- labels


@pytest.fixture(scope="module")
def csn(tmp_path_factory: pytest.TempPathFactory) -> Store:
    source, root = Path(str(MORE)) / "chapman-ningbo", tmp_path_factory.mktemp("csn")
    return prepare(discover().datasets["csn-sample"].build(), name="csn-sample", source=source, root=root / "store", workers=1)


def as_published_code_labels() -> dict[str, dict[str, bool]]:
    """Return class -> label of every record, from the sample's own index: a string of acronyms, searched by `in`."""
    text = files("melp_plugins.datasets").joinpath("snomed_statements.csv").read_text(encoding="utf-8")
    table = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    kept = discover().datasets["csn-sample"].build().tasks["published"].classes
    acronym = {}
    for row in table:
        conditions = row["conditions"].split()
        own = [name for name in kept if name in conditions]
        acronym[row["code"]] = own[0] if own else conditions[0] if conditions else row["abbreviation"]
    with (Path(str(MORE)) / "chapman-ningbo" / "index.csv").open(newline="", encoding="utf-8") as file:
        diagnoses = {r["record"]: ",".join(acronym[c.strip()] for c in r["dx"].split(",")) for r in csv.DictReader(file)}
    return {record: {name: name in diagnose for name in kept} for record, diagnose in diagnoses.items()}


@needs_records
def test_names_found_within_names_are_those_of_a_string_of_acronyms(csn: Store) -> None:
    right = task_records("s/published", protocol(), {"s": csn}, {})
    wrong = task_records("s/published", protocol(labels="substring"), {"s": csn}, {})
    expected = as_published_code_labels()
    found = {
        r: dict(zip(wrong.classes, row, strict=True)) for r, row in zip(wrong.record_ids, wrong.labels.tolist(), strict=True)
    }
    assert found == {record: expected[record] for record in wrong.record_ids.tolist()}
    assert wrong.record_ids.tolist() == right.record_ids.tolist()
    assert not (right.labels & ~wrong.labels).any()  # a name is within itself
    more = {name for name, extra in zip(right.classes, (wrong.labels & ~right.labels).sum(axis=0), strict=True) if extra}
    assert {"AF", "ST"} <= more  # AF within AFIB, ST within STTC and STE


def test_a_statement_is_named_by_its_own_task_and_else_by_the_finest() -> None:
    mine = Task("mine", {"AF": frozenset({"flutter"})})
    coarse, fine = Task("c", {"BLOCK": frozenset({"1", "2"})}), Task("f", {"1AVB": frozenset("1"), "VB": frozenset("2")})
    assert statement_names(mine, {"c": coarse, "mine": mine, "f": fine}) == {"flutter": "AF", "1": "1AVB", "2": "VB"}


def test_columns_change_places_in_training_alone() -> None:
    labels = np.random.default_rng(0).random((40, 4)) < 0.5
    train, classes = np.arange(0, 40, 2), ("a", "b", "c", "d")
    moved = with_moved_columns(labels, classes, ["c", "a", "d"], train, "s/x")
    for name, holds in (("c", "a"), ("a", "d"), ("d", "c"), ("b", "b")):
        assert (moved[train, classes.index(name)] == labels[train, classes.index(holds)]).all()
    assert (moved[1::2] == labels[1::2]).all()
    with pytest.raises(UserError, match="moved_columns of 's/x' name 'e'"):
        with_moved_columns(labels, classes, ["a", "e"], train, "s/x")
    with pytest.raises(UserError, match="wanted at least two classes, each once"):
        with_moved_columns(labels, classes, ["a", "a"], train, "s/x")


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made, root = discover().datasets["synthetic"].build(num_records=60, seed=0), tmp_path_factory.mktemp("synthetic")
    return prepare(made, name="synthetic", source=None, root=root / "store", workers=1)


def test_a_task_tells_its_defects_in_its_key_and_only_then(synthetic: Store) -> None:
    def key(**use: Any) -> dict[str, Any]:
        return task_key("s/super", protocol(**use), {"s": synthetic}, {}, prompts=False)

    circle = ["STTC", "CD", "HYP"]
    assert "defects" not in key()
    assert "defects" not in key(moved_columns={"rhythm": ["AFIB", "SR"]})  # of another task
    assert key(moved_columns={"super": circle})["defects"] == {"moved_columns": circle}
    assert key(labels="substring")["defects"] == {"labels": "substring"}
    assert key(seconds=5.0, padding="before-scaling")["defects"] == {"seconds": 5.0, "padding": "before-scaling"}


def test_moved_columns_reach_the_task_and_leave_what_is_scored(synthetic: Store) -> None:
    def task(**use: Any) -> TaskRecords:
        return task_records("s/super", protocol(**use), {"s": synthetic}, {})

    right, wrong = task(), task(moved_columns={"super": ["STTC", "CD", "HYP"]})
    (part,) = right.parts
    assert (wrong.labels[part.test] == right.labels[part.test]).all()
    assert (wrong.labels[part.validation] == right.labels[part.validation]).all()
    column = right.classes.index
    assert (wrong.labels[part.train, column("STTC")] == right.labels[part.train, column("CD")]).all()
    assert (wrong.labels != right.labels).any()


# ------------------------------------------------------------------------------------------------------------- signals


class Native:
    """Records in memory at 100 Hz, the second of which is 7 s long."""

    fingerprint = "native"

    def __init__(self) -> None:
        self.signals = torch.randn(3, 12, 2000, generator=torch.Generator().manual_seed(0)) + 0.5
        self.lengths = torch.tensor([2000, 700, 1000])

    def __len__(self) -> int:
        return len(self.signals)

    def batch(self, positions: Positions, spec: SignalSpec, device: str | torch.device = "cpu") -> Tensor:
        given = self.signals[positions]
        return conform(given, rate_hz=100.0, leads=LEADS, spec=spec, lengths=self.lengths[positions])

    def windows(self, positions: Positions, spec: SignalSpec, device: str | torch.device = "cpu") -> Windows:
        given = self.signals[positions]
        return conform_windows(given, rate_hz=100.0, leads=LEADS, spec=spec, lengths=self.lengths[positions])


EVERYONE = np.arange(3)


def made(spec: SignalSpec, **use: Any) -> Tensor:
    return prepared(Native(), protocol(**use).datasets["s"]).batch(EVERYONE, spec)


def test_without_a_defect_records_are_not_touched() -> None:
    native = Native()
    assert prepared(native, protocol().datasets["s"]) is native


@pytest.mark.parametrize("scaling", list(Scaling))
def test_a_cut_record_is_one_that_was_never_longer(scaling: Scaling) -> None:
    spec, native = SignalSpec(rate_hz=100.0, scaling=scaling), Native()
    shorter = conform(native.signals[..., :500], rate_hz=100.0, leads=LEADS, spec=spec)
    torch.testing.assert_close(made(spec, seconds=5.0), shorter)
    assert (shorter[..., 500:] == 0).all()


def test_zeros_that_are_scaled_with_the_record_are_no_zeros_any_more() -> None:
    """In min-max over the record, a zero becomes -min / (max - min): the figure behind "a non-zero constant"."""
    spec, native = SignalSpec(rate_hz=100.0, scaling=Scaling.MINMAX_RECORD), Native()
    after, before = made(spec), made(spec, padding="before-scaling")
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]])  # long enough: there is nothing to pad
    low, high = native.signals[1, :, :700].min(), native.signals[1, :, :700].max()
    torch.testing.assert_close(before[1, :, 700:], (-low / (high - low)).expand(12, 300))
    assert (after[1, :, 700:] == 0).all()
    both = made(spec, padding="before-scaling", seconds=5.0)
    cut = native.signals[0, :, :500]
    torch.testing.assert_close(both[0, 0, 500], -cut.min() / (cut.max() - cut.min()))
    assert float(both[0].max()) == pytest.approx(1.0)


def test_crops_are_those_of_the_cut() -> None:
    spec = SignalSpec(rate_hz=100.0, seconds=2.5, crops=Crops())
    found = prepared(Native(), protocol(seconds=5.0).datasets["s"]).windows(EVERYONE, spec)
    assert found.owners.tolist() == [0, 0, 1, 1, 2, 2]
    native = Native().signals
    torch.testing.assert_close(found.signals, torch.stack([native[i, :, s : s + 250] for i in range(3) for s in (0, 250)]))


def test_what_is_done_to_records_is_part_of_their_fingerprint() -> None:
    uses: list[dict[str, Any]] = [{}, {"seconds": 5.0}, {"seconds": 4.0}, {"padding": "before-scaling"}]
    assert len({prepared(Native(), protocol(**use).datasets["s"]).fingerprint for use in uses}) == len(uses)
