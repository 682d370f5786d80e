"""All that is measured of one encoder in one process: batches, latency, a training step in its parts, and what a floor allows.

The floor is the time that the device's own large matrix product and copy, measured in the same process, would take for the
operations and for the bytes that must be moved at least (weights, records, features): the larger of both.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from melp_bench.components import ECGEncoder
from melp_bench.throughput.cost import gflops_per_record
from melp_bench.throughput.device_rates import COPIED, SIDE, copied_bytes, matmul_flops
from melp_bench.throughput.machine import device_name
from melp_bench.throughput.measurements import MeasuredFigure
from melp_bench.throughput.memory import weight_bytes
from melp_bench.throughput.timing import Spread, spread, synchronise, time_calls

WARMUP = 2
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
PATIENCE = 2
"""The search ends where so many batches in a row gave no more records per second than the best before."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Machine:
    """Where figures are measured, and what it does in a second."""

    device: torch.device
    name: str
    version: str
    flops: Spread
    copied: Spread


def this_machine(device: torch.device, dtype: torch.dtype, *, side: int = SIDE, size: int = COPIED) -> Machine:
    """Return the machine with its rates of a product in `dtype` and of a copy, measured now."""
    rates = matmul_flops(device, dtype, side=side), copied_bytes(device, size=size)
    return Machine(device, place(device), versions(), *rates)


def place(device: torch.device) -> str:
    """Return the device's name, of a processor with its threads: figures of two places are never compared."""
    number = torch.get_num_threads()
    return device_name(device) + (f", {number} thread{'s' * (number > 1)}" if device.type == "cpu" else "")


def versions() -> str:
    """Return the versions of torch and of this package."""
    import melp_bench

    return f"torch {torch.__version__}, melp_bench {melp_bench.__version__}"


def measure_details(
    name: str,
    encoder: ECGEncoder,
    device: torch.device,
    *,
    dtype: str = "float32",
    compiled: bool = False,
    repeats: int = 20,
    train_batch: int = 16,
    batches: Sequence[int] = BATCHES,
    machine: Machine | None = None,
) -> list[MeasuredFigure]:
    """Return every figure of an encoder, run eagerly or compiled, in float32 or by autocast in another type."""
    machine = machine or this_machine(device, DTYPES[dtype])
    encoder = encoder.to(device).eval()
    provider, found = f"{'compiled' if compiled else 'eager'} {dtype}", list(_rates(machine, dtype))

    def add(mode: str, metric: str, x: float, value: Spread | float) -> None:
        value = value if isinstance(value, Spread) else Spread(value, value, value)
        row = MeasuredFigure(
            name, provider, mode, metric, x, value.median, value.low, value.high, machine.name, machine.version
        )
        found.append(row)

    run: nn.Module = torch.compile(encoder, dynamic=True) if compiled else encoder  # type: ignore[assignment]

    def forward_of(batch: int) -> Callable[[], object]:
        signal = _records(encoder, batch, device)

        def forward() -> object:
            with torch.inference_mode(), _typed(device, dtype):
                return run(signal)

        return forward

    latency = [1e3 * s for s in time_calls(forward_of(1), repeats=max(repeats, 10), warmup=WARMUP, device=device)]
    add("forward", "latency_p50_ms", 1, spread(latency))
    add("forward", "latency_p90_ms", 1, _quantile(latency, 0.9))
    best, rate, waited = 1, Spread(0.0, 0.0, 0.0), 0
    for batch in batches:
        seconds = time_calls(forward_of(batch), repeats=repeats, warmup=WARMUP, device=device)
        this = spread([batch / s for s in seconds])
        add("forward", "records_per_second", batch, this)
        if this.median > rate.median:
            best, rate, waited = batch, this, 0
        elif (waited := waited + 1) == PATIENCE:
            break
    add("forward", "best_batch", best, float(best))
    flops, moved = 1e9 * gflops_per_record(encoder), _least_bytes(encoder, best, device)
    add("forward", "flops", best, best * flops)
    add("forward", "bytes", best, float(moved))
    floor = max(best * flops / machine.flops.median, moved / (2 * machine.copied.median))  # a copy reads and writes
    add("forward", "floor_fraction", best, Spread(*(floor * r / best for r in (rate.median, rate.low, rate.high))))
    if compiled or dtype != "float32":
        add("forward", "maximal_error", 2, _error(encoder, run, device, dtype))
    for metric, milliseconds in train_parts(encoder, run, device, dtype, batch=train_batch, repeats=repeats).items():
        add("train", metric, train_batch, spread(milliseconds))
    return found


def train_parts(
    encoder: ECGEncoder, run: nn.Module, device: torch.device, dtype: str, *, batch: int, repeats: int
) -> dict[str, list[float]]:
    """Return the milliseconds of a training step's forward pass, backward pass and AdamW's step, of each repeat.

    The loss is the sum of the means of all features; the rate is so small that the weights stay what they are.
    """
    signal, trained = _records(encoder, batch, device), [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-12, weight_decay=0.0, fused=True)
    kept: dict[str, Tensor] = {}

    def forward() -> None:
        with _typed(device, dtype):
            means = [t.float().mean() for t in run(signal).present().values() if t.is_floating_point()]
        kept["loss"] = torch.stack(means).sum()

    def backward() -> None:
        torch.autograd.backward(kept.pop("loss"))

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    parts = {"forward_ms": forward, "backward_ms": backward, "optimiser_ms": step}
    found: dict[str, list[float]] = {metric: [] for metric in parts}
    encoder.train()
    try:
        for number in range(-WARMUP, repeats):
            for metric, part in parts.items():
                synchronise(device)
                (seconds,) = time_calls(part, repeats=1, warmup=0, device=device)
                if number >= 0:
                    found[metric].append(1e3 * seconds)
    finally:
        encoder.eval()
    return found


def _rates(machine: Machine, dtype: str) -> Iterator[MeasuredFigure]:
    """Yield what the device can do."""
    for kernel, metric, x, rate in (
        ("matmul", "flops_per_second", SIDE, machine.flops),
        ("copy", "bytes_per_second", COPIED, machine.copied),
    ):
        provider = f"eager {dtype}" if kernel == "matmul" else "eager"
        yield MeasuredFigure(
            kernel, provider, "forward", metric, x, rate.median, rate.low, rate.high, machine.name, machine.version
        )


def _records(encoder: ECGEncoder, batch: int, device: torch.device) -> Tensor:
    generator, spec = torch.Generator().manual_seed(0), encoder.spec
    return torch.randn(batch, len(spec.leads), spec.samples, generator=generator).to(device)  # (B, L, T)


@contextmanager
def _typed(device: torch.device, dtype: str) -> Iterator[None]:
    with torch.autocast(device.type, DTYPES[dtype], enabled=dtype != "float32"):
        yield


def _least_bytes(encoder: ECGEncoder, batch: int, device: torch.device) -> int:
    """Return the bytes that a forward pass must move at least: weights and records in, features out."""
    signal = _records(encoder, batch, device)
    with torch.inference_mode():
        features = encoder(signal)
    out: int = sum(tensor.numel() * tensor.element_size() for tensor in features.present().values())
    return weight_bytes(encoder) + signal.numel() * signal.element_size() + out


def _error(encoder: ECGEncoder, run: nn.Module, device: torch.device, dtype: str) -> float:
    """Return the largest deviation of any feature from the eager one in float32, relative to the largest of its kind."""
    signal = _records(encoder, 2, device)
    with torch.inference_mode():
        plain = encoder(signal).present()
        with _typed(device, dtype):
            other = run(signal).present()
    kinds = [name for name, tensor in plain.items() if tensor.is_floating_point()]
    return max(
        float((other[kind].float() - plain[kind]).abs().max() / plain[kind].abs().max().clamp_min(1e-30)) for kind in kinds
    )


def _quantile(values: Sequence[float], share: float) -> float:
    return float(torch.tensor(values, dtype=torch.float64).quantile(share))
