"""What is asked of an objective's life: its views, what it does per record, and how it follows the model.

Shapes: B pairs.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from melp_bench.components import View
from melp_bench.errors import NotApplicable
from melp_bench.features import Features
from melp_bench.pretrain.step import local_of, parameters_of
from melp_bench.pretrain.views import looked_at
from melp_bench.testing.inputs import PAIRS, reorder
from melp_bench.testing.objective_subject import ObjectiveSubject
from melp_bench.testing.verdict import demand
from melp_bench.testing.views import VIEW_CHECKS


def views_are_views(subject: ObjectiveSubject) -> str:
    views = subject.objective.views()
    if not views:
        raise NotApplicable("it has no views of its own")
    unread = [name for name in views if not {name, f"{name}_signal"} & set(subject.names)]
    demand(not unread, f"it says how {', '.join(unread)} are made, and reads them nowhere")
    for name, made in views.items():
        wrong = [type(view).__name__ for view in made if not isinstance(view, View)]
        demand(not wrong, f"{name} is made of {', '.join(wrong)}; wanted melp_bench.View objects")
        for view in made:
            for check in VIEW_CHECKS.values():
                check(view)
        begin, end = looked_at(made)
        demand(0 <= begin < end <= 1, f"{name} looks at {begin:g} to {end:g} of a record; wanted a part of 0 to 1")
    return ", ".join(views)


def local_is_per_record(subject: ObjectiveSubject) -> str:
    """Compare what `local` makes of a batch with what it makes of its records one by one, as other ranks would."""
    if (local := local_of(subject.objective)) is None:
        raise NotApplicable("it does nothing per record")
    names, inputs = parameters_of(subject.objective, "local"), subject.inputs()
    with torch.no_grad():
        whole = local(**{name: inputs[name] for name in names})
        for row in range(PAIRS):
            one = reorder(inputs, torch.tensor([row]))
            alone = local(**{name: one[name] for name in names})
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


def follows_the_model(subject: ObjectiveSubject) -> str:
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
        for parameter in (*model.parameters(), *(p for p in objective.parameters() if p.requires_grad)):
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
