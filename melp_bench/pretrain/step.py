"""One training step as a module: records and reports in, every term of the loss out.

Shapes: B records, L leads, T samples, C classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from melp_bench.components import Objective, TextBatch
from melp_bench.errors import UserError
from melp_bench.features import Features
from melp_bench.model import Model
from melp_bench.pretrain.views import augment, halves

INPUTS = ("ecg", "text", "view1", "view2", "half1", "half2", "labels", "signal", "encoder", "reports", "text_encoder")
OF_REPORTS = {"text", "reports", "text_encoder"}

Gather = Callable[[Tensor], Tensor]


class Batch:
    """What one step reads; no dataclass, because mixed precision takes dataclasses apart and refuses frozen ones.

    Attributes:
        signal: (B, L, T), as the encoder's spec asks; None where nothing but reports is read.
        reports: tokenised, where the model reads them.
        labels: (B, C), where the dataset has them.
    """

    def __init__(self, signal: Tensor | None, reports: TextBatch | None, labels: Tensor | None) -> None:
        self.signal, self.reports, self.labels = signal, reports, labels

    def __len__(self) -> int:
        return len(self.signal) if self.signal is not None else 0 if self.reports is None else len(self.reports.ids)


def wanted_inputs(objective: Objective) -> tuple[str, ...]:
    """Return the names of what an objective needs: the parameters of its `forward`.

    Raises:
        UserError: a parameter is none of the inputs that the loop can make.
    """
    forward = getattr(objective, "forward")  # noqa: B009 - declared by each objective, not by the base class
    names = tuple(inspect.signature(forward).parameters)
    unknown = [n for n in names if n not in INPUTS]
    if unknown:
        raise UserError(f"objective {type(objective).__name__!r} asks for {unknown}; what there is: {', '.join(INPUTS)}")
    return names


class Step(nn.Module):
    """The model and its objectives; `forward` returns each term as (mean, count)."""

    def __init__(self, model: Model, objectives: Mapping[str, Objective]) -> None:
        super().__init__()
        self.model = model
        self.objectives = nn.ModuleDict(objectives)
        self.wanted = {name: wanted_inputs(objective) for name, objective in objectives.items()}
        if model.text_encoder is None and self.reads_reports:
            needy = [n for n, w in self.wanted.items() if OF_REPORTS & set(w)]
            raise UserError(f"objectives {needy} read reports, but the recipe has no [text] encoder")

    @property
    def reads_reports(self) -> bool:
        """Whether some objective reads reports."""
        return any(OF_REPORTS & set(names) for names in self.wanted.values())

    @property
    def reads_signals(self) -> bool:
        """Whether some objective reads more than reports."""
        return any(set(names) - OF_REPORTS for names in self.wanted.values())

    def forward(
        self, batch: Batch, generator: torch.Generator, gather: Gather | None = None, progress: float = 0.0
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return term name -> (mean over what it counts, that count), both zero-dimensional."""
        made = self._inputs(batch, generator)
        terms: dict[str, tuple[Tensor, Tensor]] = {}
        for name, objective in self.objectives.items():
            given: dict[str, Any] = {n: made[n] for n in self.wanted[name]}
            if gather is not None and objective.needs_global_batch:
                given = {n: _gathered(value, gather) for n, value in given.items()}
            value = objective(**given)
            mean, count = value if isinstance(value, tuple) else (value, torch.tensor(float(len(batch))))
            terms[name] = (mean, count.to(mean.device))
        return terms

    def _inputs(self, batch: Batch, generator: torch.Generator) -> dict[str, Any]:
        """Return every input that some objective wants, each made once."""
        wanted = {n for names in self.wanted.values() for n in names}
        if "labels" in wanted and batch.labels is None:
            raise UserError(
                "an objective reads labels, but the pretraining dataset has no task of the name in [pretrain] labels"
            )
        made: dict[str, Any] = {"signal": batch.signal, "encoder": self.model.encoder, "labels": batch.labels}
        made |= {"reports": batch.reports, "text_encoder": self.model.text_encoder}
        if batch.signal is None:
            return made | ({"text": self.model.text(batch.reports)} if "text" in wanted and batch.reports else {})
        if "ecg" in wanted:
            made["ecg"] = self.model.ecg(batch.signal)
        if "text" in wanted:
            if batch.reports is None:
                raise UserError("an objective reads reports, but the dataset has none")
            made["text"] = self.model.text(batch.reports)
        for view in ("view1", "view2"):
            if view in wanted:
                made[view] = self.model.ecg(augment(batch.signal, generator))
        if wanted & {"half1", "half2"}:
            made["half1"], made["half2"] = (self.model.ecg(half) for half in halves(batch.signal))
        return made


def _gathered(value: Any, gather: Gather) -> Any:
    """Return `value` with the rows of all ranks.

    Ranks may be padded to different lengths: where a scale has no mask, one is made, so that padding stays padding.
    """
    if isinstance(value, Features):
        if value.segments is not None and value.segments_mask is None:
            value = replace(value, segments_mask=_all_real(value.segments))
        if value.tokens is not None and value.tokens_mask is None:
            value = replace(value, tokens_mask=_all_real(value.tokens))
        return value.apply({name: gather(tensor) for name, tensor in value.present().items()})
    return gather(value) if isinstance(value, Tensor) else value


def _all_real(tensor: Tensor) -> Tensor:
    return torch.ones(tensor.shape[:2], dtype=torch.bool, device=tensor.device)
