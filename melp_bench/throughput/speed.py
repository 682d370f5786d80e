"""Records per second of one subject: an encoder, an objective, or a way of reading records."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import torch

from melp_bench.errors import UserError
from melp_bench.throughput.cost import num_parameters
from melp_bench.throughput.machine import environment
from melp_bench.throughput.memory import PeakMemory
from melp_bench.throughput.rows import SpeedRow, Work
from melp_bench.throughput.subject import Subject
from melp_bench.throughput.timing import spread, time_calls

WARMUP = 3
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def measure(subject: Subject, work: Work, device: torch.device) -> SpeedRow:
    """Return the subject's row. The process should be a fresh one, or the peak on a CPU is too low.

    The device is that of the subject, and `checked_device` has looked at the work.
    """
    call = _call(subject, work, device)
    peak = PeakMemory(subject.module, device)
    seconds = time_calls(call, repeats=work.repeats, warmup=WARMUP, device=device)
    peak_bytes = peak.bytes()
    _forget(subject)
    rate = spread([subject.records / s for s in seconds])
    return SpeedRow(
        kind=subject.name.kind,
        name=subject.name.name,
        options=subject.name.options,
        recipe=subject.name.recipe,
        work=work,
        environment=environment(device, work.dtype),
        records_per_second=rate.median,
        records_per_second_low=rate.low,
        records_per_second_high=rate.high,
        seconds=seconds,
        peak_bytes=peak_bytes,
        peak_method=peak.method,
        parameters=num_parameters(subject.module),
        gflops_per_record=subject.gflops(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def checked_device(work: Work) -> torch.device:
    """Return the device, once all that the user may have got wrong is checked, with the threads set.

    Raises:
        UserError: the work cannot be done here.
    """
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
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    return device


def _call(subject: Subject, work: Work, device: torch.device) -> Callable[[], object]:
    """Return one forward pass, or one forward and backward pass, over the same records each time."""
    half = work.dtype != "float32"

    def forward() -> object:
        with torch.inference_mode(), torch.autocast(device.type, DTYPES[work.dtype], enabled=half):
            return subject.forward()

    def train() -> object:
        _forget(subject)
        with torch.autocast(device.type, DTYPES[work.dtype], enabled=half):
            means = [t.float().mean() for t in subject.forward() if t.is_floating_point()]
        torch.autograd.backward(torch.stack(means).sum())
        return None

    return train if work.mode == "train" else forward


def _forget(subject: Subject) -> None:
    """Remove every gradient."""
    for tensor in subject.trained:
        tensor.grad = None
