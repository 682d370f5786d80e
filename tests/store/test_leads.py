"""Stores of records with other leads than the standard twelve: from native leads to batches, flags, counts and drawings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from made_waves import beats

from melp_bench.ecg_plot import plot_record
from melp_bench.errors import UserError
from melp_bench.features import Features
from melp_bench.leads import LEADS
from melp_bench.records import Dataset, RecordInfo, Signal, Task
from melp_bench.signal import Crops, SignalSpec, conform
from melp_bench.store import Store, prepare
from melp_bench.store.census import census
from melp_bench.windows import embed_windows

EIGHT = ("I", "II", *LEADS[6:])
KINDS = {"twelve": LEADS, "eight": EIGHT, "one": ("II",), "chest": ("V2", "V1")}


class Mixed(Dataset):
    """Records of twelve leads, of eight, of one and of two chest leads by turns, cut from the same beats."""

    version, licence, citation, generated = "1", "none", "none", True

    @property
    def tasks(self) -> Mapping[str, Task]:
        return {"all": Task("all", {"X": frozenset({"x"})}, keep_unlabelled=True)}

    def infos(self, source: Path) -> Iterator[RecordInfo]:
        for number in range(12):
            yield RecordInfo(f"{list(KINDS)[number % 4]}{number}", statements=frozenset({"x"} if number % 3 else ()))

    def signal(self, source: Path, info: RecordInfo) -> Signal:
        kind = info.record_id.rstrip("0123456789")
        number = int(info.record_id.removeprefix(kind))
        return Signal(whole(number)[[LEADS.index(lead) for lead in KINDS[kind]]], 500.0, KINDS[kind])


def whole(number: int) -> np.ndarray:
    return beats(number).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepare(Mixed(), name="mixed", source=None, root=tmp_path_factory.mktemp("mixed") / "store")


def test_a_record_with_any_known_lead_is_kept_and_counted(store: Store) -> None:
    assert len(store) == 12
    assert not store.manifest.quarantined
    assert store.leads[:4] == [LEADS, EIGHT, ("II",), ("V2", "V1")]
    assert census(store).leads == dict.fromkeys([LEADS, EIGHT, ("II",), ("V1", "V2")], 3)


def test_few_leads_are_no_fault_of_a_record(store: Store) -> None:
    assert store.quality_flags == [()] * 12


def test_eight_leads_are_twelve_to_an_encoder_that_wants_twelve(store: Store) -> None:
    found = store.batch([0, 1, 4, 5], SignalSpec(rate_hz=250))
    for row, number in enumerate((0, 1, 4, 5)):
        expected = conform(torch.from_numpy(whole(number))[None], rate_hz=500, leads=LEADS, spec=SignalSpec(rate_hz=250))[0]
        assert (found[row] - expected).abs().max() < 1e-3


def test_a_batch_of_records_of_different_leads_is_that_of_each_alone(store: Store) -> None:
    spec = SignalSpec(rate_hz=250, missing_leads="zero")
    order = [3, 0, 2, 1, 7]
    together = store.batch(order, spec)
    assert torch.equal(together, torch.cat([store.batch([position], spec) for position in order]))
    assert not together[2][[row for row, lead in enumerate(LEADS) if lead != "II"]].any()
    assert together[2][LEADS.index("II")].abs().max() > 0.3
    assert torch.equal(store.batch([2, 0], SignalSpec(leads=("II",)))[1, 0], store.batch([0], SignalSpec())[0, 1])


def test_an_encoder_that_cannot_be_fed_is_told_record_and_leads_in_one_line(store: Store) -> None:
    with pytest.raises(UserError) as error:
        store.batch(np.arange(12), SignalSpec())
    told = str(error.value)
    assert told.startswith(
        "record 'one2' of 'mixed' and 2 others: leads I, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6 are wanted"
    )
    assert "cannot be derived from II" in told
    assert "\n" not in told
    assert store.refusal(SignalSpec()) == told
    assert store.refusal(SignalSpec(), np.array([0, 1, 4])) is None
    assert store.refusal(SignalSpec(missing_leads="zero")) is None
    only = store.refusal(SignalSpec(leads=("V1",)), np.array([0, 6, 3]))
    assert only is not None
    assert only.startswith("record 'one6' of 'mixed': lead V1 is wanted and cannot be derived from II")


def test_a_part_of_a_record_is_conformed_as_a_record_of_its_own(store: Store) -> None:
    spec = SignalSpec(rate_hz=250, seconds=5)
    halves = [store.batch([0, 1], spec, part=part) for part in ((0.0, 0.5), (0.5, 1.0))]
    for row, number in enumerate((0, 1)):
        for half, begin in zip(halves, (0, 2500), strict=True):
            x = torch.from_numpy(whole(number)[:, begin : begin + 2500])[None]
            assert (half[row] - conform(x, rate_hz=500, leads=LEADS, spec=spec)[0]).abs().max() < 1e-3


def test_crops_of_records_of_different_leads_are_pooled_by_record(store: Store) -> None:
    spec = SignalSpec(rate_hz=100, seconds=2, missing_leads="zero", crops=Crops(0.5, "max"))

    def encode(x: torch.Tensor) -> Features:
        level = x.amax(dim=2)
        return Features(record=level, embedding=level, tokens=x.transpose(1, 2))

    embedding, record = embed_windows(encode, store.windows(np.arange(12), spec), spec.crops, batch_size=7)
    covered = store.batch(np.arange(12), SignalSpec(rate_hz=100, missing_leads="zero"))
    assert torch.allclose(embedding, covered.amax(dim=2), atol=1e-4)
    assert torch.equal(record, embedding)


@pytest.mark.parametrize("position", range(4))
def test_a_drawing_has_the_leads_that_are_there_or_follow_from_them(store: Store, position: int) -> None:
    named = {text.get_text() for text in plot_record(store.signal(position)).axes[0].texts}
    there = {0: set(LEADS), 1: set(LEADS), 2: {"II"}, 3: {"V1", "V2"}}[position]
    assert named & set(LEADS) == there
