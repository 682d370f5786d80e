"""The tables of docs/scaling.md are those that the model makes of the costs beside them, and the costs are the recipe's."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from melp_bench.plugins import discover
from melp_bench.throughput.cost import gflops_per_record, num_parameters
from melp_bench.throughput.scaling import H100, StepCost, markdown_table, scaling_rows

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    """Return what stands between the markers of a generated part."""
    (found,) = re.findall(rf"<!-- {name}: begin -->\n(.*?)\n?<!-- {name}: end -->", PAGE, re.S)
    return str(found)


def costs() -> StepCost:
    """Return the costs as the page states them."""
    flops, pair, gathered, read, trained, _ = (int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", block("costs"))[-6:])
    return StepCost(flops, pair, gathered, read, trained)


def test_the_table_is_that_of_the_costs() -> None:
    gpus, records = [1, 2, 4, 8, 16, 32, 64], [800_000, 10_000_000]
    rows = scaling_rows(costs(), H100, gpus=gpus, batch_per_gpu=64, records=records, epochs=10)
    assert block("table") == markdown_table(rows)


def test_the_sources_are_those_of_the_model() -> None:
    assert [line.removeprefix("- ") for line in block("sources").splitlines()] == list(H100.sources)


def test_the_costs_hold_the_encoder_of_that_name_and_what_it_reads() -> None:
    with torch.device("meta"):
        encoder = discover().ecg_encoders["melp"].build(contrast_queries=10)
    cost, spec = costs(), encoder.spec
    forward_and_backward = 3 * 1e9 * gflops_per_record(encoder)
    assert 0.4 * cost.flops < forward_and_backward < 0.9 * cost.flops
    assert num_parameters(encoder) < cost.trained_parameters
    assert cost.read_bytes == len(spec.leads) * spec.samples * 2
