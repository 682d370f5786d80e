"""What pretraining costs on many GPUs: a model of its steps in floating-point operations, bytes read and bytes exchanged.

Data-parallel training as `pretrain` does it: every GPU has the whole model and its share of a batch, features of contrasts are
gathered from all, gradients are averaged over all. Not in the model: the latency of a collective, the optimiser's own step, and
validations, which together are some percent of a step of this size.

Communication: a ring, as NCCL's documentation counts it (doc/PERFORMANCE.md of NVIDIA/nccl-tests): of S bytes that all have in
the end, a GPU sends and receives (n - 1) / n * S in an all-gather or a reduce-scatter, and twice that in an all-reduce.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GRADIENT_BYTES = 4
"""Gradients are averaged in float32, also where the model computes in bfloat16 by autocast."""
BACKWARD = 2 / 3
"""The share of a step's operations that is the backward pass, in which gradients can be averaged meanwhile."""


@dataclass(frozen=True)
class StepCost:
    """What one record costs in a training step of a recipe.

    Attributes:
        flops: floating-point operations, forward and backward, of the record by itself.
        flops_per_pair: the same, of comparing one record with one report (or view) of the batch.
        gathered_bytes: features that are gathered from all ranks.
        read_bytes: of the store, as it lies there.
        trained_parameters: whose gradients are averaged in each step.
    """

    flops: float
    flops_per_pair: float
    gathered_bytes: float
    read_bytes: float
    trained_parameters: int


@dataclass(frozen=True)
class Cluster:
    """GPUs, and what connects them.

    Attributes:
        peak_flops: of one GPU, dense, in the precision that is trained in.
        used: the share of them that training uses.
        node: GPUs of a node.
        inside: bytes per second that a GPU sends and at the same time receives in a node, as a collective sees it.
        port: bytes per second each way of one of a node's ports, of which there is one for each GPU.
    """

    name: str
    peak_flops: float
    used: float
    node: int
    inside: float
    port: float
    sources: tuple[str, ...] = ()

    def bandwidth(self, gpus: int) -> float:
        """Return the bytes per second of a GPU in a ring of so many; each of a node's ports carries a ring of its own."""
        return self.inside if gpus <= self.node else min(self.inside, self.node * self.port)


H100 = Cluster(
    name="H100 SXM, eight to a node",
    peak_flops=989.4e12,
    used=0.40,
    node=8,
    inside=350e9,
    port=48e9,
    sources=(
        "bfloat16 peak without sparsity 989.4 TFLOPS: NVIDIA H100 datasheet",
        "40 % of it used: Llama 3 reports 38 to 43 % (arXiv 2407.21783, table 4); small models use less",
        "350 GB/s inside a node: NCCL's all-gather as measured on H100 in issue 1281 of NVIDIA/nccl (NVLink 4: 450 each way)",
        "48 GB/s for each of a node's eight ports: 400 Gb/s InfiniBand (DGX H100 datasheet), less 4 %, which is an assumption",
    ),
)


@dataclass(frozen=True)
class Estimate:
    """What the model says of one number of GPUs; times in seconds per step."""

    gpus: int
    batch: int  # of all GPUs
    compute: float
    gather: float
    reduce: float
    exposed: float  # what of `reduce` the backward pass does not hide
    records_per_second: float
    read_per_node: float  # bytes per second

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self.compute + self.gather + self.exposed

    @property
    def efficiency(self) -> float:
        """The share of a step in which the GPUs compute."""
        return self.compute / self.step


def estimate(cost: StepCost, cluster: Cluster, *, gpus: int, batch_per_gpu: int) -> Estimate:
    """Return what a step costs on `gpus` GPUs with `batch_per_gpu` records each."""
    batch = gpus * batch_per_gpu
    operations = batch_per_gpu * (cost.flops + batch * cost.flops_per_pair)
    compute = operations / (cluster.peak_flops * cluster.used)
    ring = (gpus - 1) / gpus / cluster.bandwidth(gpus)  # seconds per byte that all have in the end
    gather = 2 * ring * batch * cost.gathered_bytes  # forward, and the gradient's way back
    reduce = 2 * ring * GRADIENT_BYTES * cost.trained_parameters
    exposed = max(reduce - BACKWARD * compute, 0.0)
    rate = batch / (compute + gather + exposed)
    return Estimate(
        gpus, batch, compute, gather, reduce, exposed, rate, rate * cost.read_bytes * min(cluster.node, gpus) / gpus
    )


HEADINGS = (
    "GPUs",
    "batch",
    "compute ms",
    "gather ms",
    "reduce ms",
    "exposed ms",
    "computing",
    "records/s",
    "read GB/s per node",
)


def scaling_rows(
    cost: StepCost, cluster: Cluster, *, gpus: Sequence[int], batch_per_gpu: int, records: Sequence[int], epochs: int
) -> list[list[str]]:
    """Return the table as text, its headings first: a row per number of GPUs, and the time of `epochs` over each corpus."""
    rows = [[*HEADINGS, *(f"{epochs} epochs of {number:,}" for number in records)]]
    for number in gpus:
        one = estimate(cost, cluster, gpus=number, batch_per_gpu=batch_per_gpu)
        times = (duration(epochs * corpus / one.records_per_second) for corpus in records)
        milliseconds = (f"{1e3 * seconds:.3g}" for seconds in (one.compute, one.gather, one.reduce, one.exposed))
        rate, read = f"{one.records_per_second:,.0f}", f"{one.read_per_node / 1e9:.2f}"
        rows.append([str(number), f"{one.batch:,}", *milliseconds, f"{one.efficiency:.0%}", rate, read, *times])
    return rows


def duration(seconds: float) -> str:
    """Return a time as a reader plans with it: minutes, hours or days."""
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.1f} days"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, headings first, as a Markdown table that reads well as text."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|", *lines[1:]])
