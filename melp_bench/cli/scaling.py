"""`melp-bench scaling`: what pretraining a recipe would cost on 1 to 64 GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from melp_bench.cli import options
from melp_bench.errors import UserError

if TYPE_CHECKING:
    from melp_bench.throughput.scaling import StepCost


def scaling(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe, RECIPE+ENCODER or .toml file.")],
    setting: options.Settings = None,
    records: Annotated[str, typer.Option(help="Records of a corpus; several with commas.")] = "800000,10000000",
    epochs: Annotated[int, typer.Option(min=1, help="How often a corpus is read.")] = 100,
    gpus: Annotated[str, typer.Option(help="Numbers of GPUs, with commas.")] = "1,2,4,8,16,32,64",
    batch: Annotated[int, typer.Option("--batch-per-gpu", min=1, help="Records of a step on one GPU.")] = 64,
    words: Annotated[int, typer.Option(min=1, help="Words of a report.")] = 60,
    rate: Annotated[float, typer.Option("--rate", min=1, help="Samples per second of the store.")] = 500.0,
    here: Annotated[bool, typer.Option("--here", help="Measure this machine's own rates, too.")] = False,
) -> None:
    """Count what a step of RECIPE's last stage costs, and say how long pretraining takes on so many H100."""
    from rich.console import Console

    from melp_bench.plugins import discover
    from melp_bench.runs.candidates import recipe_of
    from melp_bench.runs.references import RecipeReference, parse
    from melp_bench.runs.resolution import resolve
    from melp_bench.runs.scaling import cost_of
    from melp_bench.throughput.scaling import H100, scaling_rows

    catalogue = discover()
    numbers, corpora = _numbers(gpus, "--gpus"), _numbers(records, "--records")
    reference = parse(recipe, catalogue)
    if not isinstance(reference, RecipeReference):
        raise UserError(f"{recipe!r} has weights already; name a recipe")
    console = Console()
    with console.status("counting the operations of a step"):
        resolved = resolve(recipe_of(reference), catalogue, options.settings(setting))
        cost = cost_of(resolved, catalogue, words=words, native_rate_hz=rate)
    rows = scaling_rows(cost, H100, gpus=numbers, batch_per_gpu=batch, records=corpora, epochs=epochs)
    for text in (*cost_lines(resolved.name, cost), "", *_table(rows), "", *H100.sources, *(_measured() if here else ())):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def cost_lines(name: str, cost: StepCost) -> list[str]:
    """Return what a record of a recipe costs, a line each."""
    return [
        f"{name}, one record in one step:",
        f"  {cost.flops:,.0f} operations forward and backward, and {cost.flops_per_pair:,.0f} for each pair of the batch",
        f"  {cost.gathered_bytes:,.0f} bytes of features gathered, {cost.read_bytes:,.0f} bytes read",
        f"  {cost.trained_parameters:,} trained parameters, {4 * cost.trained_parameters / 1e6:,.0f} MB of gradients a step",
    ]


def _table(rows: list[list[str]]) -> list[str]:
    from melp_bench.throughput.scaling import markdown_table

    return markdown_table(rows).splitlines()


def _measured() -> list[str]:
    """Return what this machine does in a second."""
    import torch

    from melp_bench.throughput.device_rates import copied_bytes, matmul_flops
    from melp_bench.throughput.machine import device_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    product, copy = matmul_flops(device, dtype), copied_bytes(device)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return [
        f"here: {device_name(device)}{threads}: {product.median / 1e9:,.0f} GFLOPs/s in a product of matrices "
        f"({product.low / 1e9:,.0f} to {product.high / 1e9:,.0f}), {copy.median / 1e9:.1f} GB/s copied"
    ]


def _numbers(given: str, flag: str) -> list[int]:
    """Return the positive integers of an option.

    Raises:
        UserError: it names something else.
    """
    parts = [part.strip().replace("_", "") for part in given.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"{flag} is {given!r}; wanted positive numbers with commas, as 1,8,64")
    return [int(part) for part in parts]
