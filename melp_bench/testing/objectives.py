"""What is asked of every objective.

Shapes: B pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from melp_bench.components import Objective, Sizes
from melp_bench.errors import NotApplicable
from melp_bench.features import Features
from melp_bench.testing.compare import demand_all_used, round_trip
from melp_bench.testing.inputs import FEATURE_INPUTS, PAIRS, SIZES, Inputs, disturb_padding, make_inputs, reorder, wanted_inputs
from melp_bench.testing.verdict import demand

SCALES = ("token", "beat", "rhythm", "signal")
FITTING_STEPS = 150


@dataclass(frozen=True)
class ObjectiveSubject:
    """An objective in `eval()`, a way to build it again, and the names of what it needs."""

    objective: Objective
    rebuild: Callable[[], Objective]
    names: tuple[str, ...]

    def loss(self, inputs: Inputs) -> Tensor:
        """Return the loss, with masks and noise drawn from a fixed seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return mean_of(self.objective(**inputs))


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
    """Return the subject of an objective's checks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = build(SIZES)
    if not isinstance(objective, Objective):
        raise TypeError(f"build returned {type(objective).__name__!r}; wanted a melp_bench.Objective")
    return ObjectiveSubject(objective.eval(), lambda: build(SIZES), wanted_inputs(objective))


def _declares(subject: ObjectiveSubject) -> str:
    scale = getattr(subject.objective, "scale", None)
    demand(scale in SCALES, f"scale is {scale!r}; wanted one of {', '.join(SCALES)}")
    return f"{scale}, needs {', '.join(subject.names)}"


def _finite(subject: ObjectiveSubject) -> str:
    values = []
    for pairs in (PAIRS, 2, 1):
        value = subject.loss(make_inputs(subject.names, pairs=pairs))
        demand(value.dim() == 0, f"the loss of {pairs} pairs is {tuple(value.shape)}; wanted a zero-dim tensor")
        demand(bool(torch.isfinite(value)), f"the loss of {pairs} pairs is {value.item()}")
        values.append(f"{value.item():.3g}")
    return f"{', '.join(values)} for {PAIRS}, 2 and 1 pairs"


def _count(subject: ObjectiveSubject) -> str:
    returned = subject.objective(**make_inputs(subject.names))
    if not isinstance(returned, tuple):
        return "a mean over records"
    count = float(returned[1])
    demand(count > 0, f"the mean is over {count} things")
    return f"a mean over {count:g} things"


def _gradient(subject: ObjectiveSubject) -> str:
    inputs = make_inputs(subject.names)
    if "signal" in inputs and "encoder" not in inputs:
        inputs["signal"].requires_grad_()
    subject.objective.zero_grad(set_to_none=True)
    torch.autograd.backward(subject.loss(inputs))
    reached = []
    for name, value in inputs.items():
        if name == "labels" or (name == "signal" and "encoder" in inputs):
            continue
        gradients = _gradients(value)
        demand(all(bool(torch.isfinite(g).all()) for g in gradients.values()), f"a gradient at {name} is not finite")
        alive = [n for n, g in gradients.items() if bool(g.abs().max() > 0)]
        demand(bool(alive), f"no gradient reaches {name}")
        reached.append(f"{name}.{'/'.join(alive)}" if isinstance(value, Features) else name)
    demand_all_used(subject.objective)
    subject.objective.zero_grad(set_to_none=True)
    return f"reaches {', '.join(reached)}"


def _gradients(value: object) -> dict[str, Tensor]:
    """Return the gradients that arrived at an input, by name."""
    if isinstance(value, Features):
        return {n: t.grad for n, t in value.present().items() if t.is_floating_point() and t.grad is not None}
    if isinstance(value, Tensor):
        return {} if value.grad is None else {"signal": value.grad}
    if isinstance(value, torch.nn.Module):
        return {n: p.grad for n, p in value.named_parameters() if p.grad is not None}
    return {}


def _permutation(subject: ObjectiveSubject) -> str:
    if "encoder" in subject.names:
        raise NotApplicable("its random masks are drawn per position in the batch")
    inputs = make_inputs(subject.names)
    order = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        one, two = subject.loss(inputs).item(), subject.loss(reorder(inputs, order)).item()
    demand(abs(one - two) <= 1e-4 * max(abs(one), 1.0), f"{one:.6g} in one order of the pairs, {two:.6g} in another")
    return f"moves by {abs(one - two):.1g}"


def _under_masks(subject: ObjectiveSubject) -> str:
    inputs = make_inputs(subject.names)
    if not any(isinstance(v, Features) for v in inputs.values()):
        raise NotApplicable("it reads no features")
    with torch.no_grad():
        one, two = subject.loss(inputs).item(), subject.loss(disturb_padding(inputs)).item()
    demand(abs(one - two) <= 1e-4 * max(abs(one), 1.0), f"{one:.6g}, and {two:.6g} with other values under the masks")
    return f"moves by {abs(one - two):.1g}"


def _true_pairs(subject: ObjectiveSubject) -> str:
    """Compare true pairs with pairs rotated by one, after the objective's own layers were fitted to the true ones."""
    partners = [n for n in subject.names if n in (*FEATURE_INPUTS, "labels")]
    if len(partners) < 2:
        raise NotApplicable("it reads no pairs")
    true = {n: v if not isinstance(v, Features) else _detached(v) for n, v in make_inputs(subject.names).items()}
    shuffled = reorder(true, torch.arange(PAIRS).roll(1), only=partners[0])
    fitted = ObjectiveSubject(subject.rebuild(), subject.rebuild, subject.names)
    fitted.objective.load_state_dict(subject.objective.state_dict())
    fitted.objective.eval()
    parameters = [p for p in fitted.objective.parameters() if p.requires_grad]
    if parameters:
        optimiser = torch.optim.Adam(parameters, lr=3e-3)
        for _ in range(FITTING_STEPS):
            optimiser.zero_grad()
            torch.autograd.backward(fitted.loss(true))
            optimiser.step()
    with torch.no_grad():
        low, high = fitted.loss(true).item(), fitted.loss(shuffled).item()
    demand(low < high, f"true pairs cost {low:.4g}, shuffled ones {high:.4g}")
    return f"{low:.3g} against {high:.3g}" + (f", its own layers fitted for {FITTING_STEPS} steps" if parameters else "")


def _detached(features: Features) -> Features:
    return features.apply({n: t.detach() for n, t in features.present().items()})


def _round_trip(subject: ObjectiveSubject) -> str:
    other = ObjectiveSubject(round_trip(subject.objective, subject.rebuild), subject.rebuild, subject.names)
    inputs = make_inputs(subject.names)
    with torch.no_grad():
        one, two = subject.loss(inputs).item(), other.loss(inputs).item()
    demand(abs(one - two) <= 1e-5 * max(abs(one), 1.0), f"{one:.6g} before the round trip, {two:.6g} after it")
    return f"{len(subject.objective.state_dict())} tensors"


OBJECTIVE_CHECKS: dict[str, Callable[[ObjectiveSubject], str]] = {
    "it declares its scale and what it needs": _declares,
    "the loss is finite and zero-dim": _finite,
    "what it is a mean over is counted": _count,
    "gradient reaches every input and parameter": _gradient,
    "the order of the pairs does not matter": _permutation,
    "what lies under a mask does not matter": _under_masks,
    "true pairs cost less than shuffled ones": _true_pairs,
    "weights survive a strict round trip": _round_trip,
}
