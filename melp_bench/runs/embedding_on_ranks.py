"""What the rows of a run will read of datasets, embedded by all ranks before the first computes the rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Protocol

from melp_bench.checkpoint import Manifest, read_manifest
from melp_bench.evaluations import Context
from melp_bench.progress import Advance, Listener, stage_if_needed
from melp_bench.runs.candidates import Candidate
from melp_bench.runs.plan import Plan, Row

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)


class ContextOf(Protocol):
    """Makes what evaluations of a candidate are handed."""

    def __call__(self, candidate: Candidate, manifest: Manifest, *, advance: Advance) -> Context:
        """Return the context; nothing is loaded yet."""


def embed_on_all_ranks(plan: Plan, rows: Sequence[Row], context_of: ContextOf, fabric: Fabric, listener: Listener) -> None:
    """Embed the datasets of `rows`, as the first rank has them, each model's batches shared among all ranks.

    A share that fails is logged: the first rank then embeds that dataset by itself, where the error meets the rows it is of. A
    dataset of which an evaluation reads no features is embedded for nothing, which costs a pass without gradients.
    """
    mine = {(row.candidate.told, alias): None for row in rows for alias in row.planned.aliases}
    wanted: list[tuple[str, str]] = fabric.broadcast(sorted(mine))
    known = {row.candidate.told: row.candidate for row in plan.rows}
    rank, ranks = fabric.global_rank, fabric.world_size
    for told in dict.fromkeys(told for told, _ in wanted):
        with stage_if_needed(listener, f"embed {told}", "rec") as advance:
            context = cache(partial(_context, told, known, context_of, advance))
            for alias in (alias for name, alias in wanted if name == told):
                with _logged(f"{alias!r} of {told!r} on rank {rank}"):
                    context().embed_share(alias, rank=rank, ranks=ranks)
                fabric.barrier()
                if rank == 0:
                    with _logged(f"{alias!r} of {told!r}"):
                        context().join_shares(alias, ranks=ranks)


def _context(told: str, known: Mapping[str, Candidate], context_of: ContextOf, advance: Advance) -> Context:
    return context_of(known[told], read_manifest(known[told].folder), advance=advance)


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log whatever goes wrong, a stranger's code among it, and go on: ranks that wait for one another must not part ways."""
    try:
        yield
    except Exception as error:
        logger.info("embedding %s: %s", what, error, exc_info=error)
