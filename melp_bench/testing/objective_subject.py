"""An objective as its checks see it: attached to a small model, and called as the loop calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from melp_bench.components import Objective, Sizes
from melp_bench.errors import NotApplicable
from melp_bench.features import Features
from melp_bench.pretrain.step import local_of, parameters_of, wanted_inputs
from melp_bench.testing.inputs import PAIRS, Inputs, made_like, make_inputs
from melp_bench.testing.small import SIZES, SmallModel
from melp_bench.testing.verdict import demand


@dataclass(frozen=True)
class ObjectiveSubject:
    """An objective in `eval()`, attached to a small model, a way to build it again, and the names of what it needs."""

    objective: Objective
    model: SmallModel
    rebuild: Callable[[], Objective]
    names: tuple[str, ...]

    def inputs(self, *, pairs: int = PAIRS) -> Inputs:
        """Return what it needs, for so many pairs."""
        return make_inputs(self.names, self.objective.views(), model=self.model, pairs=pairs)

    def kinds(self) -> dict[str, str]:
        """Return of which kind each input is, by name."""
        return {name: made_like(name, self.objective.views()) for name in self.names}

    def loss(self, inputs: Inputs) -> Tensor:
        """Return the loss, with masks and noise drawn from a fixed seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return mean_of(called(self.objective, inputs))


def called(objective: Objective, inputs: Inputs) -> object:
    """Return what an objective makes of inputs, its `local` before its `forward`."""
    given = dict(inputs)
    if (local := local_of(objective)) is not None:
        found = local(**{name: inputs[name] for name in parameters_of(objective, "local")})
        wrong = {name: type(value).__name__ for name, value in found.items() if not isinstance(value, Tensor | Features)}
        demand(not wrong, f"local returns {wrong}; wanted tensors and features by name")
        given |= found
    names = parameters_of(objective, "forward")
    missing = [name for name in names if name not in given]
    demand(not missing, f"forward asks for {missing}, which local does not return")
    return objective(**{name: given[name] for name in names})


def mean_of(returned: object) -> Tensor:
    """Return the mean of what an objective returned: a tensor, or `(mean, count)`.

    Raises:
        TypeError: it is neither.
    """
    mean = returned[0] if isinstance(returned, tuple) and len(returned) == 2 else returned
    if not isinstance(mean, Tensor):
        raise TypeError(f"forward returned {type(returned).__name__!r}; wanted a zero-dim tensor, or (mean, count)")
    return mean


def objective_subject(build: Callable[[Sizes], Objective]) -> ObjectiveSubject:
    """Return the subject of an objective's checks.

    Raises:
        TypeError: what is built is no objective.
        NotApplicable: it does not fit the small encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, objective = SmallModel(), build(SIZES)
        if not isinstance(objective, Objective):
            raise TypeError(f"build returned {type(objective).__name__!r}; wanted a melp_bench.Objective")
        names = wanted_inputs(objective)
        if (reason := objective.fits(model.encoder)) is not None:
            raise NotApplicable(f"cannot train a plain encoder of patches with masked encoding: it {reason}")
        objective.attach(model)
    model.eval()

    def rebuild() -> Objective:
        again = build(SIZES)
        again.attach(model)
        return again

    return ObjectiveSubject(objective.eval(), model, rebuild, names)
