"""How a pretraining is computed: in smaller pieces, compiled, recomputed, or spread over ranks. What is learned is the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from melp_bench.errors import UserError
from melp_bench.schema import Frozen, first_problem

MOVES_NO_BIT = frozenset({"recompute"})


class Engine(Frozen):
    """Options of the machine, not of the method: they are given on the command line, and no recipe or protocol has them.

    Attributes:
        micro_batch: how many records a rank embeds at once; 0 is its whole batch. The loss is the whole batch's (GradCache).
        compile: what torch compiles the encoders with; nothing by default.
        recompute: whether the activations of an encoder's layers are computed again in the backward pass, and not kept.
        sharded: whether weights, gradients and the optimiser's state are spread over the ranks (FSDP2), and not copied.
    """

    micro_batch: int = Field(default=0, ge=0)
    compile: Literal["", "inductor", "aot_eager", "eager"] = ""
    recompute: bool = False
    sharded: bool = False

    @model_validator(mode="after")
    def _go_together(self) -> Engine:
        if self.compile and (self.sharded or self.recompute):
            raise ValueError("compile goes with neither sharded nor recompute; choose")
        return self

    def content(self) -> dict[str, Any]:
        """Return what the bits of the weights depend on: nothing by default, and of the rest what was chosen."""
        return self.model_dump(mode="json", exclude=set(MOVES_NO_BIT), exclude_defaults=True)


PLAIN = Engine()


def read_engine(options: Mapping[str, str]) -> Engine:
    """Return the engine of `options` as they are typed: "micro_batch" -> "16".

    Raises:
        UserError: there is no such option, or its value does not fit.
    """
    try:
        return Engine.model_validate(dict(options))
    except ValidationError as error:
        raise UserError(f"--engine: {first_problem(error, Engine)}") from error
