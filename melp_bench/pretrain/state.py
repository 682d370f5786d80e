"""The state of a run that is under way: what must survive a kill, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from melp_bench.errors import UserError
from melp_bench.home import commit, make_folder, temporary_path

if TYPE_CHECKING:
    from lightning_fabric import Fabric

History = dict[str, list[float]]
LAST, BEST, FINISHED = "last", "best", "finished"


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
    """Write stage, step, weights and optimiser to `folder`/`name`.pt; only rank 0 writes."""
    if fabric.global_rank == 0:
        make_folder(folder)
        state = {
            "stage": stage,
            "step": step,
            "weights": module.state_dict(),
            "optimizer": optimizer.state_dict() if optimizer is not None else {},
            "trained": trained or {},
        }
        partial = temporary_path(folder / f"{name}.pt")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            commit(file.fileno(), partial, folder / f"{name}.pt")
    fabric.barrier()


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
        UserError: the file is damaged, of another stage or of another model.
    """
    path = folder / f"{name}.pt"
    advice = f"delete the folder {str(folder)!r} and run again, which starts this stage from its beginning"
    try:
        state: dict[str, Any] = torch.load(path, map_location=fabric.device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(f"the saved state {str(path)!r} is damaged ({type(error).__name__}); {advice}") from error
    try:
        if state["stage"] != stage:
            raise ValueError(f"of stage {state['stage']!r}")
        module.load_state_dict(state["weights"], strict=True)
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
        state["step"], state["trained"] = int(state["step"]), dict(state["trained"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"the saved state {str(path)!r} does not fit this model ({type(error).__name__}); {advice}") from error
    return state
