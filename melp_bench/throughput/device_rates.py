"""What this machine does in a second: operations of a large matrix product, and bytes that it copies."""

from __future__ import annotations

import torch

from melp_bench.throughput.timing import Spread, spread, time_calls

SIDE = 2048
COPIED = 256 * 2**20
REPEATS = 7


def matmul_flops(
    device: torch.device, dtype: torch.dtype = torch.float32, *, side: int = SIDE, repeats: int = REPEATS
) -> Spread:
    """Return the operations per second of a product of square matrices of `side` rows, a multiply-add as two."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = time_calls(lambda: left @ right, repeats=repeats, warmup=2, device=device)
    return spread([2 * side**3 / second for second in seconds])


def copied_bytes(device: torch.device, *, size: int = COPIED, repeats: int = REPEATS) -> Spread:
    """Return the bytes per second that are copied from one place in memory to another; each is read once and written once."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return spread(
        [size / second for second in time_calls(lambda: target.copy_(source), repeats=repeats, warmup=2, device=device)]
    )
