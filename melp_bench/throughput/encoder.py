"""Records per second of one encoder.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict

from melp_bench.canonical import digest
from melp_bench.components import ECGEncoder
from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder
from melp_bench.throughput.cost import gflops_per_record, num_parameters
from melp_bench.throughput.machine import environment
from melp_bench.throughput.memory import PeakMemory
from melp_bench.throughput.timing import spread, time_calls

SCHEMA = 1
WARMUP = 3
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Work(BaseModel):
    """What is timed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["forward", "train"] = "forward"  # train: forward and backward, no optimiser
    batch: int = 16
    repeats: int = 20
    device: str = "cpu"
    dtype: str = "float32"  # bfloat16: by autocast, as pretraining does
    threads: int | None = None  # None: as torch decides


class SpeedRow(BaseModel):
    """The speed of one encoder on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    name: str
    options: dict[str, Any]
    work: Work
    environment: dict[str, str]
    records_per_second: float  # median
    records_per_second_low: float  # first quartile
    records_per_second_high: float  # third quartile
    seconds: list[float]  # of each repeat
    peak_bytes: int
    peak_method: str
    parameters: int
    gflops_per_record: float  # of the forward pass
    created: str  # ISO 8601, UTC

    @property
    def key(self) -> str:
        """The digest of what was measured and where; measuring it again replaces the row."""
        return digest(self.model_dump(mode="json", include={"name", "options", "work", "environment"}))


def measure(name: str, options: Mapping[str, Any], encoder: ECGEncoder, work: Work) -> SpeedRow:
    """Return the encoder's row. The process should be a fresh one, or the peak on a CPU is too low.

    Raises:
        UserError: the work cannot be done here.
    """
    device = _device(work)
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


def _device(work: Work) -> torch.device:
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


def write_speed(row: SpeedRow, folder: Path) -> Path:
    """Write the row to `folder`/<key>.json, whole or not at all, and return its path."""
    path = make_folder(folder) / f"{row.key}.json"
    atomic_write(path, row.model_dump_json(indent=1) + "\n")
    return path
