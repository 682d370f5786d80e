"""CMSC: the two halves of a record, and the records of one patient, belong together.

Papers: CLOCS, Kiyasseh et al. 2021 (arXiv 2005.13249); in wav2vec2-CMSC, Oh et al. 2022 (arXiv 2203.06889), published with
ECG-FM and, in another form, with MELP. Written from the papers and parity data.
Shapes: B records, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.info_nce import INITIAL_LOG_SCALE, MAXIMUM_LOG_SCALE, at_least_float32, temperature_gauge
from melp_plugins.objectives.clocs import patient_contrast
from melp_plugins.views.parts import FIRST_HALF, SECOND_HALF

TEMPERATURE = 0.1
FORMS = ("melp", "fairseq", "clocs")


def cmsc_loss(first: Tensor, second: Tensor, patients: Tensor, log_scale: Tensor) -> Tensor:
    """Return MELP's form: the target of a half is spread evenly over the other halves of its patient; mean of both directions.

    `first`, `second` (B, D) are halves of the same records, `patients` (B,) says whose they are.
    """
    logits = log_scale.exp() * F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T  # (B, B)
    same = _same(patients).float()  # the published targets are single precision, whatever the features are
    target = (same / same.sum(1, keepdim=True)).to(logits.dtype)
    loss: Tensor = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return loss


def clocs_loss(first: Tensor, second: Tensor, patients: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """Return fairseq-signals' form: the mean over all pairs of halves of one patient, both directions, halved.

    The norm is taken as a constant, as published: its gradient is not the one of a cosine.
    """
    a, b = (half / half.detach().norm(dim=-1, keepdim=True) for half in (first, second))
    logits = a @ b.T / temperature  # (B, B)
    same = _same(patients)
    forwards, backwards = -logits.log_softmax(1)[same].mean(), -logits.log_softmax(0)[same].mean()
    loss: Tensor = (forwards + backwards) / 2
    return loss


def _same(patients: Tensor) -> Tensor:
    same: Tensor = patients[:, None] == patients[None]  # (B, B)
    return same


class CMSC(mb.Objective):
    """The halves of all records of a patient belong together, and those of others apart."""

    scale: ClassVar[str] = "rhythm"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, *, form: str) -> None:
        super().__init__()
        self.form = form
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE)) if form == "melp" else None

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return the halves of a record."""
        return {"half1": [FIRST_HALF], "half2": [SECOND_HALF]}

    def forward(self, half1: mb.Features, half2: mb.Features, patients: Tensor) -> Tensor:
        """Return the loss of the halves of records, given whose they are, `patients` (B,)."""
        with torch.autocast(half1.record.device.type, enabled=False):
            first, second = at_least_float32(half1.record), at_least_float32(half2.record)
            if self.form == "clocs":
                return patient_contrast(first, second, patients, temperature=TEMPERATURE)
            if self.log_scale is None:
                return clocs_loss(first, second, patients)
            return cmsc_loss(first, second, patients, self.log_scale.clamp(0.0, MAXIMUM_LOG_SCALE))

    def gauges(self) -> dict[str, mb.Gauge]:
        """Return the temperature where it is learned."""
        return {} if self.log_scale is None else {"temperature": temperature_gauge(self.log_scale)}

    def chance(self, batch: int) -> float | None:
        """Return ln(batch); none of the paper's form, whose second part is only where a patient has more records than one."""
        return None if self.form == "clocs" else math.log(batch)


def cmsc(sizes: mb.Sizes, *, form: str = "melp") -> CMSC:
    """Return CMSC; `form` is `melp` (learned scale), `fairseq` (temperature 0.1, norm a constant) or `clocs`, as in the paper.

    Raises:
        UserError: another form.
    """
    if form not in FORMS:
        raise mb.UserError(f"option 'form' of 'cmsc' is {form!r}; wanted one of {', '.join(FORMS)}")
    return CMSC(form=form)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer CMSC."""
    return [
        mb.Entry(
            name="cmsc",
            build=cmsc,
            summary="halves of one patient's records belong together (CLOCS), as MELP, fairseq-signals or CLOCS publish it",
            source="https://arxiv.org/abs/2005.13249",
            license="MIT",
        )
    ]
