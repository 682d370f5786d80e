"""Figures of an encoder, the long table that they are kept in, and the roofline that is drawn of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from melp_bench.cli.throughput_details import INFERENCE, TRAINING, details_table
from melp_bench.errors import UserError
from melp_bench.testing.small import SmallEncoder
from melp_bench.throughput.details import Machine, measure_details
from melp_bench.throughput.measurements import FILE, MeasuredFigure, read_measurements, write_measurements
from melp_bench.throughput.roofline import plot_rooflines, rooflines
from melp_bench.throughput.timing import Spread

CPU = torch.device("cpu")
MACHINE = Machine(CPU, "a processor, 1 thread", "torch 2", Spread(2e9, 1e9, 3e9), Spread(1e9, 1e9, 1e9))


def figures(**options: object) -> list[MeasuredFigure]:
    torch.manual_seed(0)
    given = {"repeats": 3, "train_batch": 4, "batches": (1, 2, 4), "machine": MACHINE} | options
    return measure_details("small", SmallEncoder(), CPU, **given)  # type: ignore[arg-type]


def one(rows: list[MeasuredFigure], metric: str, kernel: str = "small") -> MeasuredFigure:
    (found,) = [row for row in rows if (row.kernel, row.metric) == (kernel, metric)]
    return found


def test_the_floor_is_the_time_of_operations_or_bytes_over_the_measured_time() -> None:
    rows = figures()
    best = one(rows, "best_batch").median
    (rate,) = [row for row in rows if row.metric == "records_per_second" and row.x == best]
    flops, moved = one(rows, "flops").median, one(rows, "bytes").median
    of_record = 2 * (40 * (12 * 5 * 32 + 32 * 20) + 20 * 24)  # as tests/throughput/test_encoder.py counts them
    assert flops == pytest.approx(best * of_record)
    weights, features = sum(p.numel() for p in SmallEncoder().parameters()), SmallEncoder().eval()(torch.zeros(1, 12, 200))
    assert moved >= 4 * (weights + best * 12 * 200 + best * features.record.numel())
    seconds = best / rate.median
    floor = one(rows, "floor_fraction")
    assert floor.median == pytest.approx(max(flops / 2e9, moved / 2e9) / seconds)
    assert floor.low <= floor.median <= floor.high
    assert all(row.low <= row.median <= row.high for row in rows)


def test_the_best_batch_is_the_fastest_of_those_tried() -> None:
    rows = figures(batches=(1, 2, 4, 8))
    rates = {row.x: row.median for row in rows if row.metric == "records_per_second"}
    assert one(rows, "best_batch").median == max(rates, key=lambda batch: rates[batch])
    assert set(rates) <= {1, 2, 4, 8}
    assert one(rows, "latency_p90_ms").median >= one(rows, "latency_p50_ms").median


def test_half_precision_says_how_far_it_is_from_single_and_a_step_leaves_the_weights() -> None:
    rows = figures(dtype="bfloat16")
    assert 1e-6 < one(rows, "maximal_error").median < 0.1
    assert {row.provider for row in rows} == {"eager bfloat16", "eager"}
    encoder = SmallEncoder()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    measure_details("small", encoder, CPU, repeats=1, train_batch=2, batches=(1,), machine=MACHINE)
    assert all(torch.allclose(before[name], value, atol=1e-9) for name, value in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters())
    assert not encoder.training


def row(kernel: str = "small", metric: str = "flops", x: float = 4, median: float = 8e6, **other: str) -> MeasuredFigure:
    made = MeasuredFigure(kernel, "eager float32", "forward", metric, x, median, median, median, "a, 1 thread", "torch 2")
    return replace(made, **other)


def table() -> list[MeasuredFigure]:
    return [
        row("matmul", "flops_per_second", 2048, 1e11), row("copy", "bytes_per_second", 1, 5e9, provider="eager"),
        row(), row(metric="bytes", median=4e5), row(metric="records_per_second", median=1000.0),
        row(metric="records_per_second", x=2, median=900.0), row(metric="best_batch", median=4.0),
    ]  # fmt: skip


def test_rows_are_read_as_written_and_measuring_again_replaces(tmp_path: Path) -> None:
    write_measurements(table(), tmp_path)
    write_measurements([row(median=9e6), row(device="b, 2 threads")], tmp_path)
    found = read_measurements(tmp_path)
    assert len(found) == len(table()) + 1
    assert sorted(r.median for r in found if r.metric == "flops") == [8e6, 9e6]
    assert found == sorted(found, key=lambda r: r.key)
    assert (tmp_path / FILE).read_text().splitlines()[0] == "kernel,provider,mode,metric,x,median,low,high,device,version"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text.replace("metric", "what", 1), "has the columns"),
        (lambda text: text.replace("1000", "fast", 1), "line 8: not a row"),
        (lambda text: text.replace("1000", "nan", 1), "line 8: a number is not finite"),
        (lambda text: text + "a,b\n", "line 9: not a row"),
        (lambda text: text + "a,b,c,d,1,1,1,1,e,f,g\n", "line 9: not a row"),
    ],
)
def test_a_damaged_table_is_told_with_its_line(tmp_path: Path, damage: object, told: str) -> None:
    write_measurements(table(), tmp_path)
    (tmp_path / FILE).write_text(damage((tmp_path / FILE).read_text()))  # type: ignore[operator]
    with pytest.raises(UserError, match=told):
        read_measurements(tmp_path)


def test_a_roofline_is_of_one_device_and_its_points_are_at_the_best_batch(tmp_path: Path) -> None:
    other = [replace(r, device="b, 2 threads", kernel="only there" if r.kernel == "small" else r.kernel) for r in table()]
    first, second = rooflines([*table(), *other])
    (point,) = first.points
    assert (point.kernel, point.intensity, point.flops) == ("small", 20.0, 2e6 * 1000)  # 4 records: 8e6 operations, 4e5 bytes
    assert [p.kernel for p in second.points] == ["only there"]
    assert first.roof(5.0) == 2 * 5e9 * 5  # a copy reads and writes
    assert first.roof(20.0) == 1e11
    plot_rooflines([first, second]).savefig(tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")


def test_the_tables_fit_80_columns() -> None:
    rows = [row("an-encoder-with-a-very-long-name", metric, 4, 12_345.6) for _, metric, _ in INFERENCE.values()]
    rows += [row("another", metric, 4, 12_345.6, mode="train") for _, metric, _ in TRAINING.values()]
    for columns in (INFERENCE, TRAINING):
        console = Console(width=80, record=True)
        with console.capture() as captured:
            console.print(details_table(rows, columns))
        lines = captured.get().splitlines()
        assert max(len(line) for line in lines) <= 80
        assert "12,346" in captured.get()
        assert "…" not in captured.get()
