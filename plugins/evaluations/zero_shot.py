"""Zero-shot classification: the cosine between a record and each class's prompt, or the model's own answer; nothing is fitted.

The rule (Radford et al. 2021, prompt ensembling): every paraphrase of a class is embedded and normalised, the paraphrases
are averaged, the mean is normalised again; a record's score for a class is its cosine to that mean. A model whose heads have a
way of their own to ask for classes (`ScoresClasses`) is scored by that, a class being the mean of its paraphrases' features as
they are; the scores are log-odds then, and the row says so. Scored on the test part of
a holdout and on every record where the protocol cross-validates, as no label has been seen. Validation records are scored
beside them, as metrics that need a threshold or a probability choose it there.

Shapes: N scored records, C classes, D channels of the space shared with reports, K paraphrases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.splits import Positions
from melp_plugins.evaluations.prompt_files import read_prompts

NO_TEXT = "needs a text encoder"


class ZeroShot(mb.Evaluation):
    """One row per task; `prompts` is "ours", for those of the dataset, or a JSON file of class -> prompt or prompts."""

    version = 2
    label = "zero-shot"
    metrics = ("auroc", "auprc")

    def __init__(self, *, prompts: str = "ours") -> None:
        """Read the prompt file's digest: its content counts, not where it lies.

        Raises:
            UserError: the file cannot be read.
        """
        self.prompts = prompts
        self.reads_prompts = prompts == "ours"
        self._digest = prompts if prompts == "ours" else _digest(prompts)

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task."""
        setting = "" if self.prompts == "ours" else f"prompts {Path(self.prompts).stem}"
        return [mb.Measurement(task, (task,), setting, {"prompts": self._digest}) for task in tasks]

    def fits(self, model: mb.ModelTraits) -> str | None:
        """Return why a model without a text encoder cannot be scored."""
        return None if model.reads_text else NO_TEXT

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the cosines of records and classes, or the log-odds that the model's own heads give them.

        Raises:
            NotApplicable: the model reads no text, or the task has no prompts.
            UserError: the prompt file does not fit the task.
        """
        task = context.task(measurement.task)
        prompts, details = prompts_for(task, self.prompts)
        own = context.class_scorer([prompts[name] for name in task.classes])
        if own is None:
            scores = cosines(context, task, class_directions(context, task.classes, prompts))
        else:
            scores, details = partial(own, task), {**details, "scored_by": "the model's own heads"}
        holdout = task.parts[0].validation if len(task.parts) == 1 else task.scored[:0]
        return mb.Predictions(
            scores=scores(task.scored).numpy()[None],
            labels=task.labels[task.scored],
            record_ids=task.record_ids[task.scored],
            patients=task.patients[task.scored],
            classes=task.classes,
            kind="ranking" if own is None else "logit",
            validation=(scores(holdout).numpy()[None], task.labels[holdout]) if len(holdout) else None,
            details=details,
        )


def cosines(context: mb.Context, task: mb.TaskRecords, directions: Tensor) -> Callable[[Positions], Tensor]:
    """Return the function from records to their cosines (N, C) with `directions` (C, D)."""
    record = context.features(task).record
    return lambda positions: F.normalize(record[positions], dim=-1) @ directions.T


def class_directions(context: mb.Context, classes: Sequence[str], prompts: Mapping[str, Sequence[str]]) -> Tensor:
    """Return the unit direction of each class in the shared space, shape (C, D); all prompts are encoded in one call."""
    flat = [text for name in classes for text in prompts[name]]
    encoded = context.encode_prompts(flat).float()  # (K, D)
    parts = torch.split(F.normalize(encoded, dim=-1), [len(prompts[name]) for name in classes])
    return F.normalize(torch.stack([part.mean(dim=0) for part in parts]), dim=-1)


def prompts_for(task: mb.TaskRecords, source: str) -> tuple[Mapping[str, tuple[str, ...]], dict[str, Any]]:
    """Return the prompts of every class of `task`, its own ("ours") or those of a JSON file, and details of them.

    Raises:
        NotApplicable: the task has no prompts of its own.
        UserError: the file does not fit the task.
    """
    if source != "ours":
        return read_prompts(Path(source), task.name, task.classes)
    if not any(task.prompts.values()):
        raise mb.NotApplicable(f"task {task.name!r} has no prompts")
    missing = [name for name in task.classes if not task.prompts.get(name)]
    if missing:
        raise mb.UserError(f"task {task.name!r} has no prompt for {missing}; its dataset must give every class at least one")
    return task.prompts, {"prompts": "ours"}


def _digest(prompts: str) -> str:
    try:
        return hashlib.sha256(Path(prompts).read_bytes()).hexdigest()
    except OSError as error:
        raise mb.UserError(f"cannot read prompts {prompts!r}: {error.strerror}; give a JSON file, or 'ours'") from error


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return zero-shot classification."""
    return [
        mb.Entry(
            "zero_shot",
            ZeroShot,
            "the cosine between a record and the prompts of each class, or the model's own answer",
            "https://arxiv.org/abs/2103.00020",
            "MIT",
        )
    ]
