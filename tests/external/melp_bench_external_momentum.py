"""MoCo v3, a view and a logger of its own, of another package. Paper: Chen, Xie and He 2021, arXiv:2104.02057."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb


@dataclass(frozen=True, kw_only=True)
class TimeShift(mb.View):
    """The record begins `most` of its length later at most; what is cut off comes at the end."""

    most: float = 0.5

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        samples = signal.shape[-1]
        shift = (self.most * samples * torch.rand(len(signal), 1, generator=generator, device=signal.device)).long()
        index = (torch.arange(samples, device=signal.device) + shift) % samples  # (B, T)
        return signal.gather(-1, index.unsqueeze(1).expand_as(signal))


class MoCoV3(mb.Objective):
    scale, needs_global_batch, keep = "signal", True, "last"

    def __init__(self, sizes: mb.Sizes, *, temperature: float = 0.2, momentum: float = 0.99) -> None:
        super().__init__()
        self.temperature, self.momentum = temperature, momentum
        self.predict = nn.Sequential(nn.Linear(sizes.embedding, 64), nn.ReLU(), nn.Linear(64, sizes.embedding))

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        return {"early": [TimeShift()], "late": [TimeShift()]}

    def attach(self, model: mb.PretrainingModel) -> None:
        self.slow = copy.deepcopy(model.encoder).requires_grad_(False)
        self.fast = (model.encoder,)  # in a tuple, so that it is no part of this module

    def local(self, early: mb.Features, late: mb.Features, early_signal: Tensor, late_signal: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            keys = {"k1": self.slow(early_signal).embedding, "k2": self.slow(late_signal).embedding}
        return {"q1": self.predict(early.embedding), "q2": self.predict(late.embedding), **keys}

    def forward(self, q1: Tensor, q2: Tensor, k1: Tensor, k2: Tensor) -> Tensor:
        return self.contrast(q1, k2) + self.contrast(q2, k1)

    def contrast(self, query: Tensor, key: Tensor) -> Tensor:
        logits = F.normalize(query.float(), dim=-1) @ F.normalize(key.float(), dim=-1).T / self.temperature  # (B, B)
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device)) * 2 * self.temperature

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        for slow, fast in zip(self.slow.parameters(), self.fast[0].parameters(), strict=True):
            slow.lerp_(fast, 1 - self.momentum)


class TotalsAsText(mb.RunLogger):
    """A line per validation."""

    def begin(self, run: mb.LoggedRun) -> None:
        folder = run.folder / "external"
        folder.mkdir(exist_ok=True)
        self.file = (folder / "totals.txt").open("a", encoding="utf-8")

    def log(self, values: mb.StepValues) -> None:
        if values.part == "validation":
            self.file.write(f"{values.stage} {values.step} {values.total:.4f}\n")

    def end(self) -> None:
        self.file.close()


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    return [mb.Entry("external-moco-v3", MoCoV3, "MoCo v3 of another package", "https://arxiv.org/abs/2104.02057", "MIT")]


@mb.hookimpl
def melp_views() -> list[mb.Entry[mb.View]]:
    return [mb.Entry("external-time-shift", TimeShift, "a circular shift in time", "another package", "MIT")]


@mb.hookimpl
def melp_loggers() -> list[mb.Entry[mb.RunLogger]]:
    return [mb.Entry("external-totals", TotalsAsText, "a line per validation", "another package", "MIT")]
