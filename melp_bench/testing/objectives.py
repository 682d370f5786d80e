"""What is asked of every objective.

Shapes: B pairs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from melp_bench.components import Objective, Sizes, View
from melp_bench.errors import NotApplicable, UserError
from melp_bench.features import Features
from melp_bench.pretrain.step import parameters_of, wanted_inputs
from melp_bench.pretrain.views import looked_at
from melp_bench.testing.compare import demand_all_used, round_trip
from melp_bench.testing.inputs import (
    PAIRS,
    SIZES,
    Inputs,
    SmallModel,
    disturb_padding,
    made_like,
    make_inputs,
    reorder,
)
from melp_bench.testing.verdict import demand

SCALES = ("token", "beat", "rhythm", "signal")
FITTING_STEPS = 150


@dataclass(frozen=True)
class ObjectiveSubject:
    """An objective in `eval()`, attached to a small model, a way to build it again, and the names of what it needs."""

    objective: Objective
    model: SmallModel
    rebuild: Callable[[], Objective]
    names: tuple[str, ...]

    def inputs(self, *, pairs: int = PAIRS) -> Inputs:
        """Return what it needs, for so many pairs."""
        return make_inputs(self.names, self.objective.views(), encoder=self.model.encoder, pairs=pairs)

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
    if hasattr(objective, "local"):
        found = objective.local(**{name: inputs[name] for name in parameters_of(objective, "local")})
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
    """Return the subject of an objective's checks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, objective = SmallModel(), build(SIZES)
        if not isinstance(objective, Objective):
            raise TypeError(f"build returned {type(objective).__name__!r}; wanted a melp_bench.Objective")
        names = wanted_inputs(objective)
        if (reason := objective.fits(model.encoder)) is not None:
            raise UserError(f"it refuses an ordinary encoder of patches with masked encoding: {reason}")
        objective.attach(model)
    model.eval()

    def rebuild() -> Objective:
        again = build(SIZES)
        again.attach(model)
        return again

    return ObjectiveSubject(objective.eval(), model, rebuild, names)


def _declares(subject: ObjectiveSubject) -> str:
    scale, keep = getattr(subject.objective, "scale", None), subject.objective.keep
    demand(scale in SCALES, f"scale is {scale!r}; wanted one of {', '.join(SCALES)}")
    demand(keep in ("lowest", "last"), f"keep is {keep!r}; wanted 'lowest' or 'last'")
    return f"{scale}, needs {', '.join(subject.names)}"


def _views(subject: ObjectiveSubject) -> str:
    views = subject.objective.views()
    if not views:
        raise NotApplicable("it has no views of its own")
    unread = [name for name in views if not {name, f"{name}_signal"} & set(subject.names)]
    demand(not unread, f"it says how {', '.join(unread)} are made, and reads them nowhere")
    signal = torch.randn(PAIRS, 12, 200, generator=torch.Generator().manual_seed(4))
    for name, made in views.items():
        demand(
            all(isinstance(view, View) for view in made), f"{name} is made of {list(made)!r}; wanted melp_bench.View objects"
        )
        one, two = (_viewed(made, signal) for _ in range(2))
        demand(one.shape == signal.shape, f"{name} is {tuple(one.shape)} of {tuple(signal.shape)}")
        demand(bool(torch.isfinite(one).all()), f"{name} of an ordinary record is not finite")
        demand(torch.equal(one, two), f"{name} draws something outside the generator it is given")
        begin, end = looked_at(made)
        demand(0 <= begin < end <= 1, f"{name} looks at {begin:g} to {end:g} of a record; wanted a part of 0 to 1")
    return ", ".join(views)


def _viewed(made: Sequence[View], signal: Tensor) -> Tensor:
    generator, view = torch.Generator().manual_seed(5), signal.clone()
    for one in made:
        view = one(view, generator)
    return view


def _alone(subject: ObjectiveSubject) -> str:
    """Compare what `local` makes of a batch with what it makes of its records one by one, as other ranks would."""
    if not hasattr(subject.objective, "local"):
        raise NotApplicable("it does nothing per record")
    names, inputs = parameters_of(subject.objective, "local"), subject.inputs()
    with torch.no_grad():
        whole = subject.objective.local(**{name: inputs[name] for name in names})
        for row in range(PAIRS):
            one = reorder(inputs, torch.tensor([row]))
            alone = subject.objective.local(**{name: one[name] for name in names})
            for name, value in whole.items():
                demand(_close(value, alone[name], row), f"local makes another {name} of a record alone than of it in a batch")
    return ", ".join(whole)


def _close(whole: Tensor | Features, alone: Tensor | Features, row: int) -> bool:
    if isinstance(whole, Features) and isinstance(alone, Features):
        pairs = zip(whole.present().values(), alone.present().values(), strict=True)
        return all(torch.allclose(a[row].float(), b[0].float(), rtol=1e-4, atol=1e-5) for a, b in pairs)
    if isinstance(whole, Tensor) and isinstance(alone, Tensor):
        return torch.allclose(whole[row].float(), alone[0].float(), rtol=1e-4, atol=1e-5)
    return False


def _follows(subject: ObjectiveSubject) -> str:
    """Move the model, and look at what `after_step` does with it and with the objective's own state."""
    model = copy.deepcopy(subject.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        objective = subject.rebuild()
        objective.load_state_dict(subject.objective.state_dict())
        objective.attach(model)
    held = {id(p) for p in model.parameters()} & {id(p) for p in objective.parameters()}
    demand(not held, f"{len(held)} parameters of the model are in its state, too; copy what is to be kept")
    targets = {n: p.detach().clone() for n, p in objective.named_parameters() if not p.requires_grad}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    objective.after_step(0.5)
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    demand(not moved, f"after_step changes the model's {', '.join(moved[:4])}")
    followed = [n for n, p in objective.named_parameters() if n in targets and not torch.equal(p, targets[n])]
    exported = objective.exported()
    if exported is not None:
        lacking = set(model.encoder.state_dict()) ^ set(exported.state_dict())
        demand(not lacking, f"what it exports is no encoder of this kind: {', '.join(sorted(lacking)[:4])}")
    kept = "keeps the encoder" if exported is None else f"keeps {type(exported).__name__!r} in its place"
    return f"{len(followed)} of {len(targets)} fixed tensors follow the model; {kept}"


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
    if "signal" in inputs and "encoder" not in inputs:
        inputs["signal"].requires_grad_()
    fixed = [n for n, p in subject.objective.named_parameters() if not p.requires_grad]
    subject.objective.zero_grad(set_to_none=True)
    subject.model.zero_grad(set_to_none=True)
    torch.autograd.backward(subject.loss(inputs))
    reached = []
    for name, value in inputs.items():
        if kinds[name] not in ("features", "encoder") and (name != "signal" or "encoder" in inputs):
            continue
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
    if "encoder" in subject.names:
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
    partners = [name for name, kind in subject.kinds().items() if kind in ("features", "labels")]
    if len(partners) < 2:
        raise NotApplicable("it reads no pairs")
    true = {n: v if not isinstance(v, Features) else _detached(v) for n, v in subject.inputs().items()}
    shuffled = reorder(true, torch.arange(PAIRS).roll(1), only=partners[0])
    fitted = replace(subject, objective=subject.rebuild())
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
    other = replace(subject, objective=round_trip(subject.objective, subject.rebuild))
    inputs = subject.inputs()
    with torch.no_grad():
        one, two = subject.loss(inputs).item(), other.loss(inputs).item()
    demand(abs(one - two) <= 1e-5 * max(abs(one), 1.0), f"{one:.6g} before the round trip, {two:.6g} after it")
    return f"{len(subject.objective.state_dict())} tensors"


OBJECTIVE_CHECKS: dict[str, Callable[[ObjectiveSubject], str]] = {
    "it declares its scale and what it needs": _declares,
    "its views are views": _views,
    "the loss is finite and zero-dim": _finite,
    "what it is a mean over is counted": _count,
    "gradient reaches every input and parameter": _gradient,
    "the order of the pairs does not matter": _permutation,
    "what lies under a mask does not matter": _under_masks,
    "true pairs cost less than shuffled ones": _true_pairs,
    "what it does per record is each record's own": _alone,
    "it follows the model and leaves it alone": _follows,
    "weights survive a strict round trip": _round_trip,
}
