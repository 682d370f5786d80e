"""Records per second of one encoder.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from melp_bench.components import ECGEncoder
from melp_bench.errors import UserError
from melp_bench.throughput.cost import gflops_per_record, num_parameters
from melp_bench.throughput.machine import environment
from melp_bench.throughput.memory import PeakMemory
from melp_bench.throughput.rows import SpeedRow, Work
from melp_bench.throughput.timing import spread, time_calls

WARMUP = 3
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def measure(name: str, options: Mapping[str, Any], encoder: ECGEncoder, work: Work) -> SpeedRow:
    """Return the encoder's row. The process should be a fresh one, or the peak on a CPU is too low.

    Raises:
        UserError: the work cannot be done here.
    """
    device = checked_device(work)
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    encoder = encoder.to(device).train(work.mode == "train")
    call = _call(encoder, work, device)
    peak = PeakMemory(encoder, device)
    seconds = time_calls(call, repeats=work.repeats, warmup=WARMUP, device=device)
    peak_bytes = peak.bytes()
    encoder.zero_grad(set_to_none=True)
    rate = spread([work.batch / s for s in seconds])
    return SpeedRow(
        name=name,
        options=dict(options),
        work=work,
        environment=environment(device, work.dtype),
        records_per_second=rate.median,
        records_per_second_low=rate.low,
        records_per_second_high=rate.high,
        seconds=seconds,
        peak_bytes=peak_bytes,
        peak_method=peak.method,
        parameters=num_parameters(encoder),
        gflops_per_record=gflops_per_record(encoder),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def checked_device(work: Work) -> torch.device:
    """Return the device, once all that the user may have got wrong is checked."""
    for name in ("batch", "repeats", "threads"):
        value = getattr(work, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; wanted at least 1")
    if work.dtype not in DTYPES:
        raise UserError(f"--dtype is {work.dtype!r}; wanted one of {', '.join(DTYPES)}")
    try:
        device = torch.device(work.device)
    except RuntimeError as error:
        raise UserError(f"--device is {work.device!r}; wanted cpu, cuda or cuda:0") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"--device is {work.device!r}, which is not here; use --device cpu")
    return device


def _call(encoder: ECGEncoder, work: Work, device: torch.device) -> Callable[[], object]:
    """Return one forward pass, or one forward and backward pass, over the same records each time."""
    spec = encoder.spec
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(work.batch, len(spec.leads), spec.samples, generator=generator).to(device)  # (B, L, T)
    half = work.dtype != "float32"

    def forward() -> object:
        with torch.inference_mode(), torch.autocast(device.type, DTYPES[work.dtype], enabled=half):
            return encoder(signal)

    def train() -> object:
        encoder.zero_grad(set_to_none=True)
        with torch.autocast(device.type, DTYPES[work.dtype], enabled=half):
            features = encoder(signal)
            means = [t.float().mean() for t in features.present().values() if t.is_floating_point()]
        torch.autograd.backward(torch.stack(means).sum())
        return None

    return train if work.mode == "train" else forward
