"""What is asked of every objective.

Shapes: B pairs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from melp_bench.errors import NotApplicable
from melp_bench.features import Features
from melp_bench.testing.compare import demand_all_used, round_trip
from melp_bench.testing.inputs import PAIRS, disturb_padding, reorder
from melp_bench.testing.objective_life import follows_the_model, local_is_per_record, views_are_views
from melp_bench.testing.objective_subject import ObjectiveSubject, called
from melp_bench.testing.verdict import demand

SCALES = ("token", "beat", "rhythm", "signal")
FITTING_STEPS = 150


def _declares(subject: ObjectiveSubject) -> str:
    scale, keep = getattr(subject.objective, "scale", None), subject.objective.keep
    demand(scale in SCALES, f"scale is {scale!r}; wanted one of {', '.join(SCALES)}")
    demand(keep in ("lowest", "last"), f"keep is {keep!r}; wanted 'lowest' or 'last'")
    return f"{scale}, needs {', '.join(subject.names)}"


def _finite(subject: ObjectiveSubject) -> str:
    values = []
    for pairs in (PAIRS, 2, 1):
        value = subject.loss(subject.inputs(pairs=pairs))
        demand(value.dim() == 0, f"the loss of {pairs} pairs is {tuple(value.shape)}; wanted a zero-dim tensor")
        demand(bool(torch.isfinite(value)), f"the loss of {pairs} pairs is {value.item()}")
        values.append(f"{value.item():.3g}")
    return f"{', '.join(values)} for {PAIRS}, 2 and 1 pairs"


def _count(subject: ObjectiveSubject) -> str:
    returned = called(subject.objective, subject.inputs())
    if not isinstance(returned, tuple):
        return "a mean over records"
    count = float(returned[1])
    demand(count > 0, f"the mean is over {count} things")
    return f"a mean over {count:g} things"


def _gradient(subject: ObjectiveSubject) -> str:
    inputs, kinds = subject.inputs(), subject.kinds()
    trained = [name for name in inputs if kinds[name] in ("features", "encoder", "text_encoder", "heads")]
    if "signal" in inputs and not trained:  # beside features it may be a teacher's to read
        inputs["signal"].requires_grad_()
        trained = ["signal"]
    fixed = [n for n, p in subject.objective.named_parameters() if not p.requires_grad]
    subject.objective.zero_grad(set_to_none=True)
    subject.model.zero_grad(set_to_none=True)
    torch.autograd.backward(subject.loss(inputs))
    reached = []
    for name in trained:
        value = inputs[name]
        gradients = _gradients(value)
        demand(all(bool(torch.isfinite(g).all()) for g in gradients.values()), f"a gradient at {name} is not finite")
        alive = [n for n, g in gradients.items() if bool(g.abs().max() > 0)]
        demand(bool(alive), f"no gradient reaches {name}")
        reached.append(f"{name}.{'/'.join(alive)}" if isinstance(value, Features) else name)
    demand_all_used(subject.objective)
    subject.objective.zero_grad(set_to_none=True)
    subject.model.zero_grad(set_to_none=True)
    return f"reaches {', '.join(reached)}" + (f"; {len(fixed)} tensors of its own are fixed" if fixed else "")


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
    if {"encoder", "text_encoder"} & set(subject.names):
        raise NotApplicable("its random masks are drawn per position in the batch")
    inputs = subject.inputs()
    order = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        one, two = subject.loss(inputs).item(), subject.loss(reorder(inputs, order)).item()
    demand(abs(one - two) <= 1e-4 * max(abs(one), 1.0), f"{one:.6g} in one order of the pairs, {two:.6g} in another")
    return f"moves by {abs(one - two):.1g}"


def _under_masks(subject: ObjectiveSubject) -> str:
    inputs = subject.inputs()
    if not any(isinstance(v, Features) for v in inputs.values()):
        raise NotApplicable("it reads no features")
    with torch.no_grad():
        one, two = subject.loss(inputs).item(), subject.loss(disturb_padding(inputs)).item()
    demand(abs(one - two) <= 1e-4 * max(abs(one), 1.0), f"{one:.6g}, and {two:.6g} with other values under the masks")
    return f"moves by {abs(one - two):.1g}"


def _true_pairs(subject: ObjectiveSubject) -> str:
    """Compare true pairs with pairs rotated by one, after the objective's own layers were fitted to the true ones."""
    paired = ("features", "labels", "signal")
    partners = [name for name, kind in subject.kinds().items() if kind in paired and name != "signal"]
    if len(partners) < 2:
        raise NotApplicable("it reads no pairs")
    true = {n: v if not isinstance(v, Features) else _detached(v) for n, v in subject.inputs().items()}
    shuffled = reorder(true, torch.arange(PAIRS).roll(1), only=partners[0])
    fitted = replace(subject, objective=subject.rebuild())
    fitted.objective.load_state_dict(subject.objective.state_dict())
    fitted.objective.eval()
    parameters = [p for p in fitted.objective.parameters() if p.requires_grad]
    if "heads" in true and subject.model.heads is not None:  # what it trains stands in them
        heads = copy.deepcopy(subject.model.heads)
        true["heads"] = shuffled["heads"] = heads
        parameters += heads.parameters()
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
    other = replace(subject, objective=round_trip(subject.objective, subject.rebuild))
    inputs = subject.inputs()
    with torch.no_grad():
        one, two = subject.loss(inputs).item(), other.loss(inputs).item()
    demand(abs(one - two) <= 1e-5 * max(abs(one), 1.0), f"{one:.6g} before the round trip, {two:.6g} after it")
    return f"{len(subject.objective.state_dict())} tensors"


OBJECTIVE_CHECKS: dict[str, Callable[[ObjectiveSubject], str]] = {
    "it declares its scale and what it needs": _declares,
    "its views are views": views_are_views,
    "the loss is finite and zero-dim": _finite,
    "what it is a mean over is counted": _count,
    "gradient reaches every input and parameter": _gradient,
    "the order of the pairs does not matter": _permutation,
    "what lies under a mask does not matter": _under_masks,
    "true pairs cost less than shuffled ones": _true_pairs,
    "what it does per record is each record's own": local_is_per_record,
    "it follows the model and leaves it alone": follows_the_model,
    "weights survive a strict round trip": _round_trip,
}
