"""Peak memory: as the CUDA allocator counts it, or as the operating system counts a fresh process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch
from torch import nn

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CUDA_METHOD = "torch.cuda.max_memory_allocated"
LINUX_METHOD = "peak RSS growth in a fresh process, plus weights"
OTHER_METHOD = "ru_maxrss growth in a fresh process, plus weights"


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


class PeakMemory:
    """Peak memory between construction and `bytes()`, weights of `module` included.

    On a CPU it means something only in a process that has done nothing else: memory that an allocator kept from earlier
    work is used again without being counted.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._device, self._weights = device, weight_bytes(module)
        self._before = 0
        if device.type == "cuda":
            self.method = CUDA_METHOD
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        elif _reset_peak():
            self.method, self._before = LINUX_METHOD, _status_bytes("VmRSS")
        else:
            self.method, self._before = OTHER_METHOD, _max_rss()

    def bytes(self) -> int:
        """Return the peak so far."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        peak = _status_bytes("VmHWM") if self.method == LINUX_METHOD else _max_rss()
        return max(0, peak - self._before) + self._weights


def _reset_peak() -> bool:
    """Set the process's peak to what it holds now; return whether the system can."""
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status_bytes(field: str) -> int:
    for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no field {field!r}")


def _max_rss() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
