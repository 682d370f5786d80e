"""A momentum objective: the mean teacher of a noisy student, which is what is kept."""

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb


class Noise(mb.View):
    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal + 0.1 * torch.randn(signal.shape, generator=generator, device=signal.device)


class MeanTeacher(mb.Objective):
    scale: ClassVar[str] = "signal"
    keep: ClassVar[Literal["lowest", "last"]] = "last"
    teacher: mb.ECGEncoder

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        return {"noisy": [Noise()]}

    def attach(self, model: mb.PretrainingModel) -> None:
        self.teacher = copy.deepcopy(model.encoder).requires_grad_(False)
        self.student = (model.encoder,)  # in a tuple: it is not to be in this module's state

    def local(self, signal: Tensor) -> Mapping[str, Tensor]:
        with torch.no_grad():
            return {"wanted": self.teacher(signal).embedding}

    def forward(self, noisy: mb.Features, wanted: Tensor) -> Tensor:
        return 1 - F.cosine_similarity(noisy.embedding, wanted, dim=-1).mean()

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        for slow, fast in zip(self.teacher.parameters(), self.student[0].parameters(), strict=True):
            slow.lerp_(fast, 0.1 * (1 - progress))

    def exported(self) -> nn.Module | None:
        return self.teacher


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    return [mb.Entry("added-teacher", lambda sizes: MeanTeacher(), "the mean teacher of a noisy student")]
