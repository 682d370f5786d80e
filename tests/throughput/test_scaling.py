"""The model of many GPUs: closed forms, limits, and operations counted as they are."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.model import Model
from melp_bench.plugins import discover
from melp_bench.pretrain.step import Batch, Step
from melp_bench.recipe import load_recipe
from melp_bench.runs.resolution import resolve
from melp_bench.runs.scaling import cost_of, report_of
from melp_bench.throughput.device_rates import copied_bytes, matmul_flops
from melp_bench.throughput.scaling import H100, Cluster, StepCost, duration, estimate, markdown_table, scaling_rows
from melp_bench.throughput.step_cost import count_step

COST = StepCost(flops=90e9, flops_per_pair=2e3, gathered_bytes=2048, read_bytes=120_000, trained_parameters=200_000_000)
ROUND = Cluster("round", peak_flops=1e14, used=0.5, node=8, inside=100e9, port=5e9)
WIDTH = 8


def test_one_gpu_exchanges_nothing() -> None:
    one = estimate(COST, ROUND, gpus=1, batch_per_gpu=64)
    assert (one.gather, one.reduce, one.exposed, one.efficiency) == (0.0, 0.0, 0.0, 1.0)
    assert one.compute == pytest.approx(64 * (90e9 + 64 * 2e3) / 5e13)
    assert one.records_per_second == pytest.approx(64 / one.compute)
    assert one.read_per_node == pytest.approx(120_000 * one.records_per_second)


@pytest.mark.parametrize(("gpus", "bandwidth"), [(2, 100e9), (8, 100e9), (16, 40e9), (64, 40e9)])
def test_collectives_cost_what_a_ring_sends(gpus: int, bandwidth: float) -> None:
    """Counted hop by hop: in each of n - 1 rounds every GPU passes on one n-th of the bytes."""
    found = estimate(COST, ROUND, gpus=gpus, batch_per_gpu=64)
    gathered, gradients = 64 * gpus * 2048, 4 * 200_000_000
    assert found.gather == pytest.approx(2 * sum(gathered / gpus / bandwidth for _ in range(gpus - 1)))
    assert found.reduce == pytest.approx(sum(gradients / gpus / bandwidth for _ in range(2 * (gpus - 1))))
    assert found.exposed == pytest.approx(max(found.reduce - 2 / 3 * found.compute, 0))
    assert found.step == pytest.approx(found.compute + found.gather + found.exposed)


def test_records_per_second_grow_with_gpus_and_no_faster_than_they() -> None:
    rates = [estimate(COST, H100, gpus=n, batch_per_gpu=64).records_per_second for n in (1, 2, 4, 8, 16, 32, 64)]
    assert all(a < b <= 2 * a for a, b in pairwise(rates))


def test_pairs_are_counted_over_the_whole_batch() -> None:
    none, some = replace(COST, flops_per_pair=0.0), replace(COST, flops_per_pair=1e6)
    with_pairs, without = (estimate(cost, ROUND, gpus=4, batch_per_gpu=16).compute for cost in (some, none))
    assert with_pairs - without == pytest.approx(16 * 64 * 1e6 / 5e13)


def test_a_table_has_a_row_per_number_of_gpus_and_a_time_per_corpus() -> None:
    rows = scaling_rows(COST, ROUND, gpus=[1, 8], batch_per_gpu=64, records=[800_000, 10_000_000], epochs=10)
    assert rows[0][-2:] == ["10 epochs of 800,000", "10 epochs of 10,000,000"]
    rate = estimate(COST, ROUND, gpus=1, batch_per_gpu=64).records_per_second
    assert rows[1][-2:] == [duration(8e6 / rate), duration(1e8 / rate)]
    text = markdown_table(rows)
    assert len({len(line) for line in text.splitlines()}) == 1
    assert text.splitlines()[1].startswith("|-")


@pytest.mark.parametrize(("seconds", "told"), [(60, "1 min"), (5399, "90 min"), (7200, "2.0 h"), (259_200, "3.0 days")])
def test_times_are_told_as_one_plans_with_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told


# ------------------------------------------------------------------------------------------------------------- counting


class Line(mb.ECGEncoder):
    """One matrix."""

    spec, width = mb.SignalSpec(rate_hz=10.0, seconds=1.0), WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(120, WIDTH, bias=False)

    def forward(self, signal: Tensor) -> mb.Features:
        record = self.map(signal.flatten(1))
        return mb.Features(record, record, tokens=record[:, None])


class Products(mb.Objective):
    """All records of the batch against each other."""

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True

    def forward(self, ecg: mb.Features) -> Tensor:
        return (ecg.record @ ecg.record.T).square().mean()


def test_a_record_and_a_pair_are_counted_as_in_the_closed_form() -> None:
    step = Step(Model(Line()), {"products": Products()})
    before = step.model.encoder.map.weight.clone()
    cost = count_step(step, lambda number: Batch(torch.randn(number, 12, 10)), read_bytes=240)
    assert cost.flops == 2 * 2 * 120 * WIDTH, "forward, and the weight's gradient; the signal needs none"
    assert cost.flops_per_pair == 3 * 2 * WIDTH, "forward, and the gradients of both sides"
    assert cost.gathered_bytes == 4 * WIDTH, "the record in float32; embedding and tokens are not read"
    assert (cost.read_bytes, cost.trained_parameters) == (240, 120 * WIDTH)
    assert torch.equal(step.model.encoder.map.weight, before)
    assert step.model.encoder.map.weight.grad is None


def test_what_is_frozen_is_not_reduced_and_a_recipe_without_a_stage_is_refused() -> None:
    catalogue = discover()
    melp = resolve(load_recipe("melp"), catalogue, {})
    frozen = melp.model_copy(update={"stages": [melp.stages[-1].model_copy(update={"freeze": ["text"]})]})
    whole, less = (cost_of(recipe, catalogue, words=12) for recipe in (melp, frozen))
    assert less.trained_parameters < whole.trained_parameters
    assert less.flops < whole.flops
    assert less.gathered_bytes == whole.gathered_bytes
    assert whole.read_bytes == 12 * 10 * 500 * 2
    with pytest.raises(mb.UserError, match="trains nothing"):
        cost_of(resolve(load_recipe("random-init"), catalogue, {}), catalogue, words=12)


@pytest.mark.parametrize("words", [1, 17, 60])
def test_a_report_has_as_many_words_as_asked_and_no_sentence_more(words: int) -> None:
    sentences = report_of(words).rstrip(".").split(". ")
    assert sum(len(s.split()) for s in sentences) >= words > sum(len(s.split()) for s in sentences[:-1])


def test_rates_of_a_device_are_positive_and_ordered() -> None:
    cpu = torch.device("cpu")
    for rate in (matmul_flops(cpu, side=64, repeats=3), copied_bytes(cpu, size=4096, repeats=3)):
        assert 0 < rate.low <= rate.median <= rate.high < math.inf
