"""The state of a run that is under way: what must survive a kill, written whole or not at all.

The last state and the one before it are kept: a disk that loses the one leaves the other.
"""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from melp_bench.errors import UserError
from melp_bench.home import commit, make_folder, temporary_path, unwritable
from melp_bench.pretrain.sharding import load_whole_state, whole_state

if TYPE_CHECKING:
    from lightning_fabric import Fabric

History = dict[str, list[float]]
LAST, BEFORE, BEST, FINISHED = "last", "before", "best", "finished"


class DamagedState(UserError):
    """A saved state cannot be read."""


def save_state(
    folder: Path,
    name: str,
    *,
    stage: str,
    step: int,
    module: nn.Module,
    fabric: Fabric,
    optimizer: torch.optim.Optimizer | None = None,
    trained: dict[str, Any] | None = None,
) -> None:
    """Write stage, step, weights and optimiser to `folder`/`name`.pt; only rank 0 writes. What was the last is then before it.

    Raises:
        UserError: the file cannot be written; what was written earlier is as it was.
    """
    weights, moved = whole_state(module, optimizer)
    if fabric.global_rank == 0:
        make_folder(folder)
        state = {"stage": stage, "step": step, "weights": weights, "optimizer": moved, "trained": trained or {}}
        _write(folder / f"{name}.pt", state)
    fabric.barrier()


def _write(path: Path, state: dict[str, Any]) -> None:
    """Write a state under its name; of `LAST`, the one that had the name is kept as `BEFORE`."""
    unfinished = temporary_path(path)
    try:
        with unfinished.open("wb") as file:
            torch.save(state, file)
            file.flush()
            if path.stem == LAST and path.is_file():
                path.replace(path.with_stem(BEFORE))
            commit(file.fileno(), unfinished, path)
    except OSError as error:
        raise unwritable(path, error) from error
    except RuntimeError as error:  # torch's own words for a file that took less than it was given
        raise unwritable(path, _cause(error)) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _cause(error: BaseException) -> OSError:
    """Return the error of the system that torch hides behind its own; the disk is full where it tells none."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__ or found.__context__
    return found if isinstance(found, OSError) else OSError(errno.ENOSPC, "no space left for the state")


def load_last(
    folder: Path, *, stage: str, module: nn.Module, fabric: Fabric, optimizer: torch.optim.Optimizer, say: Callable[[str], None]
) -> dict[str, Any]:
    """Load the last state, or, where it is damaged, the one before it, with a line; and return it.

    Raises:
        UserError: as `load_state`, of the only state there is.
    """
    load = partial(load_state, folder, stage=stage, module=module, fabric=fabric, optimizer=optimizer)
    there = [name for name in (LAST, BEFORE) if (folder / f"{name}.pt").is_file()]
    if len(there) == 1:
        return load(there[0])
    try:
        return load(LAST)
    except DamagedState:
        say(f"the last state {str(folder / f'{LAST}.pt')!r} is damaged; going on from the one before it")
        return load(BEFORE)


def has_state(folder: Path) -> bool:
    """Return whether a run has left a state to go on from."""
    return any((folder / f"{name}.pt").is_file() for name in (LAST, BEFORE))


def load_state(
    folder: Path,
    name: str,
    *,
    stage: str,
    module: nn.Module,
    fabric: Fabric,
    optimizer: torch.optim.Optimizer | None = None,
) -> dict[str, Any]:
    """Load weights (and optimiser) from the state written under `name`, and return it. Nothing is unpickled.

    Raises:
        DamagedState: the file is damaged.
        UserError: it is of another stage or of another model.
    """
    path = folder / f"{name}.pt"
    advice = f"delete the folder {str(folder)!r} and run again, which starts this stage from its beginning"
    try:
        with zipfile.ZipFile(path) as parts:
            if (broken := parts.testzip()) is not None:
                raise zipfile.BadZipFile(broken)  # torch does not look at the checksums that it writes
        state: dict[str, Any] = torch.load(path, map_location=fabric.device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise DamagedState(f"the saved state {str(path)!r} is damaged ({type(error).__name__}); {advice}") from error
    try:
        if state["stage"] != stage:
            raise ValueError(f"of stage {state['stage']!r}")
        load_whole_state(module, state["weights"], optimizer, state["optimizer"])
        state["step"], state["trained"] = int(state["step"]), dict(state["trained"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"the saved state {str(path)!r} does not fit this model ({type(error).__name__}); {advice}") from error
    return state
