"""What several processes compute together, and what one computes alone to compare it with.

Run as `python ranks.py STORE FOLDER`: everything is imported once, and the processes of each group are forked from there.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from every_objective import BATCH, NAMES, draws, step_of
from lightning_fabric import Fabric
from short_training import Killed
from tiny_method import OPTIMISER, make_source, make_step
from torch import Tensor

from melp_bench.pretrain.distributed import gather_over, total_loss
from melp_bench.pretrain.engine import PLAIN, Engine
from melp_bench.pretrain.gradient_cache import Parts, cached_loss
from melp_bench.pretrain.loop import pretrain
from melp_bench.pretrain.optimisation import make_optimizer
from melp_bench.pretrain.randomness import seed_step
from melp_bench.pretrain.state import save_state
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.validation import Budget, validation_loss
from melp_bench.progress import StepValues
from melp_bench.runs.training import make_fabric
from melp_bench.store import Store, open_store

GROUPS = (2, 3)
SHARDED = Engine(sharded=True)
BUDGET = Budget(steps=4, batch_size=BATCH, seed=3, validate_every=2)
MELP = {"rhythm": 1.0, "beat": 0.2, "token": 2.0}


def gradients(step: Step) -> dict[str, Tensor]:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in step.named_parameters()}


def terms_and_gradients(name: str, store: Store, fabric: Fabric) -> dict[str, Any]:
    """Return the loss of an objective on a batch, and the gradient of every parameter."""
    step = step_of(name)
    source = make_source(store, step)
    module = fabric.setup_module(step)
    mine = source.train[:BATCH][fabric.global_rank :: fabric.world_size]
    torch.manual_seed(fabric.global_rank if draws(name) else 7)  # masks are a rank's own
    gather, gathered = gather_over(fabric), []

    def noted(tensor: Tensor) -> Tensor:
        gathered.append(list(tensor.shape))
        return gather(tensor)  # type: ignore[misc]

    batch, generator = source.batch(mine, fabric.device), torch.Generator().manual_seed(5)
    terms = module(batch, generator, None if gather is None else noted, 0.25)
    total, values = total_loss(terms, {name: 1.0}, fabric)
    fabric.backward(total)
    return {"values": values, "gradients": gradients(step), "gathered": gathered}


def rank_by_rank(name: str, store: Store, world_size: int) -> dict[str, Any]:
    """Return the same of an objective that draws for its own records: what each rank would make, as one mean of all."""
    step = step_of(name)
    source, terms = make_source(store, step), []
    for rank in range(world_size):
        torch.manual_seed(rank)
        batch = source.batch(source.train[:BATCH][rank::world_size], torch.device("cpu"))
        terms.append(step(batch, torch.Generator().manual_seed(5), None, 0.25)[name])
    count = sum(float(count) for _, count in terms)
    total = sum((mean * (float(counted) / count) for mean, counted in terms), torch.zeros(()))
    total.backward()
    return {"values": {name: total.item()}, "gradients": gradients(step)}


def in_parts(store: Store, fabric: Fabric) -> dict[str, Any]:
    """Return the loss and gradients of three terms, each rank's records in parts of two."""
    step = make_step(dropout=0.0)
    source, generator = make_source(store, step), torch.Generator()
    fabric.setup_module(step)
    batch = source.batch(source.train[:BATCH][fabric.global_rank :: fabric.world_size], fabric.device)
    seed = partial(seed_step, generator, 0, 0, fabric.global_rank)
    total, values, finish = cached_loss(step, Parts(batch, 2, seed, generator, gather_over(fabric), 0.0), MELP, fabric)
    fabric.backward(total)
    finish()
    return {"values": values, "gradients": gradients(step)}


def trained(
    step: Step,
    weights: dict[str, float],
    store: Store,
    folder: Path,
    fabric: Fabric,
    engine: Engine = PLAIN,
    die_after: int = 0,
) -> dict[str, Any]:
    """Return the curves of a short pretraining, and the weights that it leaves."""

    def die(values: StepValues) -> None:
        if die_after and values.step == die_after and values.part == "train":
            raise Killed

    found = pretrain(
        step,
        weights,
        make_source(store, step),
        budget=BUDGET,
        optimiser=OPTIMISER,
        fabric=fabric,
        folder=folder,
        listeners=[die],
        engine=engine,
    )
    return {"history": found.history, "weights": step.state_dict()}


def everything(store: Store, folder: Path, fabric: Fabric) -> dict[str, Any]:
    """Return what a group of processes computes, or one alone."""
    names = NAMES
    views = trained(step_of("byol", "cmsc"), {"byol": 1.0, "cmsc": 1.0}, store, folder / "views", fabric)
    return {
        "objectives": {name: terms_and_gradients(name, store, fabric) for name in names},
        "parts": in_parts(store, fabric),
        "melp": trained(make_step(dropout=0.0), MELP, store, folder / "melp", fabric),
        "views": views,
    }


def kept_after_a_validation(store: Store, folder: Path, fabric: Fabric) -> None:
    """Write the state of a step that has only been validated, which brings weights together and takes none back."""
    step = step_of("rhythm")
    fabric.setup_module(step)
    optimizer = fabric.setup_optimizers(make_optimizer(step, OPTIMISER))
    validation_loss(step, {"rhythm": 1.0}, make_source(store, step), budget=BUDGET, fabric=fabric)
    save_state(folder, "last", stage="kept", step=1, module=step, fabric=fabric, optimizer=optimizer)


def sharded(store: Store, folder: Path, fabric: Fabric) -> dict[str, Any]:
    """Return what two processes leave that share the weights (FSDP2): undisturbed, stopped on the way, and in parts."""
    found = {"undisturbed": trained(step_of("byol", "rhythm", ema=0.5), BYOL, store, folder / "one", fabric, SHARDED)}
    try:
        trained(step_of("byol", "rhythm", ema=0.5), BYOL, store, folder / "two", fabric, SHARDED, die_after=3)
    except Killed:
        found["resumed"] = trained(step_of("byol", "rhythm", ema=0.5), BYOL, store, folder / "two", fabric, SHARDED)
    kept_after_a_validation(store, folder / "kept", fabric)
    engine = Engine(sharded=True, micro_batch=2)
    found["parts"] = trained(make_step(dropout=0.0), MELP, store, folder / "parts", fabric, engine)
    return found


BYOL = {"byol": 1.0, "rhythm": 0.5}


@contextmanager
def _as_rank(rank: int, world_size: int, port: int) -> Iterator[None]:
    """Give this process the environment that torchrun gives."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    os.environ |= {name: str(value) for name, value in told.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"}
    yield


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def group(world_size: int, work: Callable[[Fabric], dict[str, Any]], out: Path, *, shards: bool = False) -> None:
    """Let `world_size` forked processes do `work`, and the first write what it found to `out`."""
    port, children = _free_port(), []
    for rank in range(world_size):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            with _as_rank(rank, world_size, port):
                fabric = make_fabric("cpu", "32", sharded=shards)
                found = work(fabric)
                if rank == 0:
                    torch.save(found, out)
                fabric.barrier()
                code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(ended):
        raise SystemExit(f"{world_size} processes ended with {ended}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    root, where = open_store(Path(sys.argv[1])), Path(sys.argv[2])
    for size in GROUPS:
        group(size, partial(everything, root, where / f"{size}.state"), where / f"{size}.pt")
    group(2, partial(sharded, root, where / "sharded.state"), where / "sharded.pt", shards=True)
