"""Every check of a view and of an objective's life finds the fault it is there for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.testing import check_component
from melp_bench.testing.small import SmallEncoder


def broken(kind: str, build: Any) -> dict[str, str]:
    """Return what the suite finds broken, by property."""
    return {v.property: v.detail for v in check_component(kind, mb.Entry("faulty", build, "")) if v.ok is False}


# -------------------------------------------------------------------------------------------------------------- views


class Louder(mb.View):
    """Sound."""

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal * (1 + torch.rand(1, generator=generator))


class Global(mb.View):
    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal + torch.randn(signal.shape)


class Cuts(mb.View):
    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal[..., : signal.shape[-1] // 2]


class Divides(mb.View):
    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal / signal.std(dim=-1, keepdim=True)


class InPlace(mb.View):
    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal.mul_(2)


class Doubles(mb.View):
    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal.double()


class Refuses(Louder):
    def at(self, spec: mb.SignalSpec) -> mb.View:
        raise mb.UserError(f"wants sixteen leads, not {len(spec.leads)}")


class WantsSeveral(Louder):
    def at(self, spec: mb.SignalSpec) -> mb.View:
        if len(spec.leads) < 3:
            raise mb.UserError("wants three leads")
        return self


class Beyond(Louder):
    part = (0.5, 1.5)


@pytest.mark.parametrize(
    ("view", "property_name"),
    [
        (Global, "all that is random comes from the generator"),
        (Cuts, "a view has the record's shape and is finite"),
        (Doubles, "a view has the record's shape and is finite"),
        (Divides, "a flat record has a finite view"),
        (InPlace, "the record stays as it is"),
        (Beyond, "it looks at a part of the record"),
        (lambda: None, "it builds"),
        (Refuses, "it builds"),
    ],
)
def test_a_faulty_view_is_found_out(view: Any, property_name: str) -> None:
    assert property_name in broken("view", view)


def test_a_sound_view_passes_every_check() -> None:
    assert broken("view", Louder) == broken("view", WantsSeveral) == {}


# ---------------------------------------------------------------------------------------------------- masked encoding


class SeesMasked(SmallEncoder):
    def contextual(self, normed: Tensor, masked: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        return super().contextual(normed, masked, stand_in) + self.layers(normed).mean(dim=1, keepdim=True)


class SeesLeftOut(SmallEncoder):
    def contextual(self, normed: Tensor, masked: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        left_out = masked is not None and stand_in is None
        return super().contextual(normed, None if left_out else masked, stand_in)


class LeavesAState(SmallEncoder):
    def contextual(self, normed: Tensor, masked: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        return super().contextual(normed, masked, stand_in) + 1


class LiesAboutLocal(SmallEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.local_width = 7


class LiesAboutRows(SmallEncoder):
    token_rows = 7


@pytest.mark.parametrize("encoder", [SeesMasked, SeesLeftOut, LeavesAState, LiesAboutLocal, LiesAboutRows])
def test_faulty_masked_encoding_is_found_out(encoder: Any) -> None:
    assert "what is masked is not seen" in broken("ECG encoder", encoder)


# --------------------------------------------------------------------------------------------------------- objectives


class Momentum(mb.Objective):
    """InfoNCE against a slow copy of the encoder; sound."""

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True
    slow: nn.Module

    def __init__(self, sizes: mb.Sizes) -> None:
        super().__init__()
        self.project = nn.Linear(sizes.embedding, sizes.embedding)

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        return {"one": [Louder()], "two": [Louder()]}

    def attach(self, model: mb.PretrainingModel) -> None:
        self.slow, self.fast = copy.deepcopy(model.encoder).requires_grad_(False), (model.encoder,)

    def local(self, one: mb.Features, two_signal: Tensor) -> Mapping[str, Any]:
        with torch.no_grad():
            return {"query": one.embedding, "key": self.slow(two_signal).embedding}

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        logits = 10 * F.normalize(self.project(query), dim=-1) @ F.normalize(key, dim=-1).T
        return F.cross_entropy(logits, torch.arange(len(logits)))

    def after_step(self, progress: float) -> None:
        for slow, fast in zip(self.slow.parameters(), self.fast[0].parameters(), strict=True):
            slow.data.lerp_(fast.data, 0.01)


class OverTheBatch(Momentum):
    def local(self, one: mb.Features, two_signal: Tensor) -> Mapping[str, Any]:
        found = dict(super().local(one, two_signal))
        return found | {"key": found["key"] - found["key"].mean(dim=0)}


class ReturnsAList(Momentum):
    def local(self, one: mb.Features, two_signal: Tensor) -> Mapping[str, Any]:
        return {name: list(value) for name, value in super().local(one, two_signal).items()}


class ReturnsTooLittle(Momentum):
    def local(self, one: mb.Features, two_signal: Tensor) -> Mapping[str, Any]:
        return {"query": one.embedding}


class HoldsTheModel(Momentum):
    def attach(self, model: mb.PretrainingModel) -> None:
        super().attach(model)
        self.held = model.encoder


class PushesTheModel(Momentum):
    def after_step(self, progress: float) -> None:
        for parameter in self.fast[0].parameters():
            parameter.data.mul_(0.99)


class ExportsAnother(Momentum):
    def exported(self) -> nn.Module | None:
        return self.project


class RandomView(Momentum):
    def views(self) -> Mapping[str, Sequence[mb.View]]:
        return {"one": [Global()], "two": [Louder()]}


class UnreadView(Momentum):
    def views(self) -> Mapping[str, Sequence[mb.View]]:
        return {**super().views(), "three": [Louder()]}


class NamesForViews(Momentum):
    def views(self) -> Mapping[str, Sequence[Any]]:
        return {"one": ["noise"], "two": [Louder()]}


class ForgetsItsTarget(Momentum):
    def attach(self, model: mb.PretrainingModel) -> None:
        super().attach(model)
        self.slow = nn.Module()
        self.unkept, self.fast = (copy.deepcopy(model.encoder).requires_grad_(False),), (model.encoder,)
        self.scale_of_run = nn.Parameter(torch.randn(3))

    def local(self, one: mb.Features, two_signal: Tensor) -> Mapping[str, Any]:
        return {"query": one.embedding, "key": self.unkept[0](two_signal).embedding}


class KeepsTheBest(Momentum):
    keep: ClassVar[Any] = "best"


class AsksForAnotherView(Momentum):
    def local(self, one: mb.Features, three_signal: Tensor) -> Mapping[str, Any]:  # type: ignore[override]
        return {}


@pytest.mark.parametrize(
    ("objective", "property_name"),
    [
        (OverTheBatch, "what it does per record is each record's own"),
        (ReturnsAList, "the loss is finite and zero-dim"),
        (ReturnsTooLittle, "the loss is finite and zero-dim"),
        (HoldsTheModel, "it follows the model and leaves it alone"),
        (PushesTheModel, "it follows the model and leaves it alone"),
        (ExportsAnother, "it follows the model and leaves it alone"),
        (RandomView, "its views are views"),
        (UnreadView, "its views are views"),
        (NamesForViews, "its views are views"),
        (KeepsTheBest, "it declares its scale and what it needs"),
        (AsksForAnotherView, "it builds"),
        (ForgetsItsTarget, "gradient reaches every input and parameter"),
    ],
)
def test_a_fault_in_an_objectives_life_is_found_out(objective: Any, property_name: str) -> None:
    found = broken("objective", objective)
    assert property_name in found, found
    assert found[property_name]


def test_a_sound_momentum_objective_passes_every_check() -> None:
    verdicts = check_component("objective", mb.Entry("sound", Momentum, ""))
    assert all(v.ok for v in verdicts), verdicts
    assert any("fixed tensors follow" in v.detail and not v.detail.startswith("0 of") for v in verdicts)


class Choosy(Momentum):
    def fits(self, encoder: mb.ECGEncoder) -> str | None:
        return "needs two towers"


def test_what_does_not_fit_a_plain_encoder_is_said_and_not_guessed() -> None:
    (verdict,) = check_component("objective", mb.Entry("choosy", Choosy, ""))
    assert verdict.ok is None
    assert verdict.detail == "skipped: cannot train a plain encoder of patches with masked encoding: it needs two towers"
