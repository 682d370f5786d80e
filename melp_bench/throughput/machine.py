"""The machine a number was measured on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

import melp_bench

CPUINFO = Path("/proc/cpuinfo")


def environment(device: torch.device, dtype: str) -> dict[str, str]:
    """Return what a reader must know to compare a speed: device, dtype, threads and versions."""
    found = {
        "device": device.type,
        "device_name": device_name(device),
        "dtype": dtype,
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "melp_bench": melp_bench.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device.type == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(cudnn)}
    return found


def device_name(device: torch.device) -> str:
    """Return the name of the processor or the card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
