"""What is asked of every view.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from melp_bench.components import View
from melp_bench.errors import UserError
from melp_bench.signal import SignalSpec
from melp_bench.testing.verdict import demand

RECORDS = 4
SPEC = SignalSpec(rate_hz=100.0, seconds=2.0)


def view_subject(build: Callable[[], View]) -> View:
    """Return the view to ask, for records of twelve leads at 100 Hz."""
    view = build()
    if not isinstance(view, View):
        raise TypeError(f"build returned {type(view).__name__!r}; wanted a melp_bench.View")
    return view.at(SPEC)


def _records(leads: int = 12, samples: int = 200) -> Tensor:
    return torch.randn(RECORDS, leads, samples, generator=torch.Generator().manual_seed(4)).cumsum(dim=-1) / 10


def _seen(view: View, signal: Tensor, seed: int = 5) -> Tensor:
    return view(signal, torch.Generator().manual_seed(seed))


def _part(view: View) -> str:
    begin, end = view.part
    demand(0 <= begin < end <= 1, f"part is {view.part}; wanted a stretch of 0 to 1")
    return f"{begin:g} to {end:g} of the record"


def _shape(view: View) -> str:
    refused = ""
    for leads, samples in ((12, 200), (1, 200), (12, 37)):
        signal = _records(leads, samples)
        try:
            fitted = view.at(replace(SPEC, leads=SPEC.leads[:leads]))
        except UserError as reason:  # it may want more leads than one; twelve it has taken
            refused = f"one lead is refused: {reason}"
            continue
        seen = _seen(fitted, signal)
        demand(seen.shape == signal.shape, f"{tuple(seen.shape)} of {tuple(signal.shape)}")
        demand(seen.dtype == signal.dtype, f"{seen.dtype} of {signal.dtype}")
        demand(bool(torch.isfinite(seen).all()), f"a view of {leads} leads is not finite")
    return refused


def _flat(view: View) -> str:
    demand(bool(torch.isfinite(_seen(view, torch.zeros(RECORDS, 12, 200))).all()), "a view of a flat record is not finite")
    return ""


def _seeded(view: View) -> str:
    signal = _records()
    state = torch.random.get_rng_state()
    one, two, other = _seen(view, signal), _seen(view, signal), _seen(view, signal, seed=6)
    demand(torch.equal(one, two), "it draws something outside the generator that it is given")
    demand(torch.equal(state, torch.random.get_rng_state()), "it draws from the global generator")
    return "always the same" if torch.equal(one, other) else "random"


def _untouched(view: View) -> str:
    signal = _records()
    before = signal.clone()
    _seen(view, signal)
    demand(torch.equal(signal, before), "it changes the record in place")
    return ""


VIEW_CHECKS: dict[str, Callable[[View], str]] = {
    "it looks at a part of the record": _part,
    "a view has the record's shape and is finite": _shape,
    "a flat record has a finite view": _flat,
    "all that is random comes from the generator": _seeded,
    "the record stays as it is": _untouched,
}
