"""What is asked of a run, checked as far as it can be before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from melp_bench.errors import UserError
from melp_bench.home import home
from melp_bench.pretrain.engine import PLAIN, Engine, read_engine
from melp_bench.protocol import Protocol, load_protocol
from melp_bench.runs.ranks import num_ranks


@dataclass(frozen=True)
class RunSpec:
    """What is asked of a run.

    Attributes:
        models: as they are named on the command line; the protocol's own where there are none.
        settings: changes of the recipes, "encoder.layers" -> "6".
        engine: how what must be pretrained is computed.
        out: the folder of the board, with its rows in `results`.
        device: "auto", "cpu" or "cuda".
        workers: processes that make or read records.
        published_splits: the folder of the literature's label files, where the protocol reads them.
        loggers: as they are named on the command line, see `build_loggers`.
        only, skip: patterns of the cells that are run, and of those that are not, see `chosen_rows`.
        jobs: processes that share the cells.
        on: "ray" to share them over a Ray cluster; empty for processes here.
    """

    protocol: Protocol
    models: tuple[str, ...]
    out: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    workers: int = 1
    published_splits: Path | None = None
    loggers: tuple[str, ...] = ()
    engine: Engine = PLAIN
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    jobs: int = 1
    on: str = ""


class RunOptions(TypedDict, total=False):
    """What may be said to `run` beside protocol and models, as `make_spec` takes it."""

    out: str | Path | None
    settings: Mapping[str, str] | None
    device: str
    workers: int
    published_splits: str | Path | None
    loggers: Sequence[str]
    engine: Mapping[str, str] | None
    only: Sequence[str]
    skip: Sequence[str]
    jobs: int
    on: str


def make_spec(
    protocol: str | Path | Protocol,
    models: Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    settings: Mapping[str, str] | None = None,
    device: str = "auto",
    workers: int = 1,
    published_splits: str | Path | None = None,
    loggers: Sequence[str] = (),
    engine: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    jobs: int = 1,
    on: str = "",
) -> RunSpec:
    """Return what is asked of a run, its protocol read.

    Raises:
        UserError: the protocol is no valid TOML, neither it nor the caller names a model, or cells cannot be shared as asked.
        UnknownName: there is no such protocol.
    """
    rule = protocol if isinstance(protocol, Protocol) else load_protocol(str(protocol))
    names = tuple(models or rule.models)
    if not names:
        raise UserError(f"protocol {rule.name!r} names no models; give at least one with --model")
    if on not in ("", "ray"):
        raise UserError(f"--on {on!r} is not known; wanted ray, or nothing for processes of this machine")
    if jobs < 1:
        raise UserError(f"--jobs is {jobs}; wanted at least 1")
    if (jobs > 1 or on) and num_ranks() > 1:
        raise UserError(
            "--jobs and --on share cells among processes, and torchrun or srun started several ranks; use one or the other"
        )
    folder = Path(out) if out is not None else home() / "leaderboard"
    splits = None if published_splits is None else Path(published_splits)
    return RunSpec(
        protocol=rule,
        models=names,
        out=folder,
        settings=dict(settings or {}),
        device=device,
        workers=workers,
        published_splits=splits,
        loggers=tuple(loggers),
        engine=read_engine(engine or {}),
        only=tuple(only),
        skip=tuple(skip),
        jobs=jobs,
        on=on,
    )
