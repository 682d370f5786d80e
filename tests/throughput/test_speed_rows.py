"""A row holds what was measured and where; equal work on an equal machine has one key."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from melp_bench.canonical import digest
from melp_bench.errors import UserError
from melp_bench.testing.small import SmallEncoder
from melp_bench.throughput.rows import SpeedRow, SubjectName, Work, speed_key, write_speed
from melp_bench.throughput.speed import checked_device, measure
from melp_bench.throughput.subject import encoder_subject


def measured(encoder: SmallEncoder, work: Work) -> SpeedRow:
    device = checked_device(work)
    return measure(encoder_subject(SubjectName(name="small"), encoder, work, device), work, device)


class Counting(SmallEncoder):
    """Remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, signal: torch.Tensor):  # type: ignore[no-untyped-def]
        self.seen.append((len(signal), torch.is_grad_enabled(), self.training))
        return super().forward(signal)


def test_the_row_follows_from_its_seconds() -> None:
    row = measured(SmallEncoder(), Work(batch=4, repeats=5))
    rates = sorted(4 / s for s in row.seconds)
    assert len(rates) == 5
    assert row.records_per_second == pytest.approx(rates[2])
    assert (row.records_per_second_low, row.records_per_second_high) == pytest.approx((rates[1], rates[3]))
    assert row.parameters == sum(parameter.numel() for parameter in SmallEncoder().parameters())
    assert row.gflops_per_record * 1e9 == pytest.approx(
        2 * (40 * (12 * 5 * 32 + 32 * 20) + 20 * 24)
    )  # 40 patches, and one vector widened
    assert row.peak_bytes >= 4 * row.parameters


def test_forward_runs_in_eval_without_a_graph_and_train_with_one() -> None:
    for mode, graph in (("forward", False), ("train", True)):
        encoder = Counting()
        measured(encoder, Work.model_validate({"mode": mode, "batch": 3, "repeats": 2}))
        assert encoder.seen[:-1] == [(3, graph, graph)] * 5  # three to warm up, two timed
        assert encoder.seen[-1] == (1, False, False)  # the FLOPs are counted on one record
        assert all(p.grad is None for p in encoder.parameters())


def test_measuring_again_replaces_the_row_and_other_work_does_not(tmp_path: Path) -> None:
    work = Work(batch=2, repeats=1)
    first = write_speed(measured(SmallEncoder(), work), tmp_path)
    again = write_speed(measured(SmallEncoder(), work), tmp_path)
    other = write_speed(measured(SmallEncoder(), Work(batch=3, repeats=1)), tmp_path)
    assert first == again != other
    assert sorted(tmp_path.iterdir()) == sorted([first, other])
    assert SpeedRow.model_validate_json(first.read_bytes()).key == first.stem


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (Work(batch=0), "--batch is 0"),
        (Work(repeats=0), "--repeats is 0"),
        (Work(dtype="float8"), "'float8'"),
        (Work(device="abacus"), "'abacus'"),
        (Work(device="meta"), "'meta'"),
    ],
)
def test_impossible_work_is_refused_in_one_line(work: Work, said: str) -> None:
    with pytest.raises(UserError, match=said):
        checked_device(work)


def test_rows_of_ecg_encoders_have_the_keys_that_they_had_before_there_were_others() -> None:
    work, here = Work(batch=2), {"device": "cpu"}
    encoder = SubjectName(name="a", options={"layers": 2})
    before = {"name": "a", "options": {"layers": 2}, "work": work.model_dump(mode="json"), "environment": here}
    assert speed_key(encoder, work, here) == digest(before)
    others = [encoder.model_copy(update=change) for change in ({"kind": "objective"}, {"kind": "objective", "recipe": "r"})]
    assert len({speed_key(name, work, here) for name in (encoder, *others)}) == 3
