"""Zero-shot classification: the cosine between a record and each class's prompt, or the model's own answer; nothing is fitted.

The rule (Radford et al. 2021, prompt ensembling): every paraphrase of a class is embedded and normalised, the paraphrases
are averaged, the mean is normalised again; a record's score for a class is its cosine to that mean. A model whose heads have a
way of their own to ask for classes (`ScoresClasses`) is scored by that, a class being the mean of its paraphrases' features as
they are; the scores are log-odds then, and the row says so. Scored on the test part of
a holdout and on every record where the protocol cross-validates, as no label has been seen. Validation records are scored
beside them, as metrics that need a threshold or a probability choose it there.

How much the words matter: with `paraphrases = "single"` a class has its first prompt alone, as in the published tables; with
"each" every draw takes one paraphrase per class, and the score is the mean over the draws, whose spread is told beside it. So
the score is that of a prompt somebody happened to write, and the spread is what rewording moves. Draw d of a class with K
paraphrases is number d of an order of them that the draw's round and the class's name decide, so that each is used as often as
any other, and a class's draw does not depend on its neighbours.

Shapes: N scored records, C classes, D channels of the space shared with reports, K paraphrases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.splits import Positions
from melp_plugins.evaluations.prompt_files import read_prompts

NO_TEXT = "needs a text encoder"
Paraphrases = Literal["ensemble", "single", "each"]


class ZeroShot(mb.Evaluation):
    """One row per task; `prompts` is "ours", for those of the dataset, or a JSON file of class -> prompt or prompts."""

    version = 2
    label = "zero-shot"
    metrics = ("auroc", "auprc")

    def __init__(self, *, prompts: str = "ours", paraphrases: Paraphrases = "ensemble", draws: int = 10) -> None:
        """Read the prompt file's digest: its content counts, not where it lies.

        Raises:
            UserError: the file cannot be read, there is no such way to take paraphrases, or there is no draw.
        """
        if paraphrases not in get_args(Paraphrases) or draws < 1:
            raise mb.UserError(
                f"evaluation 'zero_shot' has paraphrases = {paraphrases!r} and {draws} draws; "
                f"wanted {', '.join(get_args(Paraphrases))}, and at least one draw"
            )
        self.prompts, self.paraphrases, self.draws = prompts, paraphrases, draws
        self.reads_prompts = prompts == "ours"
        self._digest = prompts if prompts == "ours" else _digest(prompts)

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task."""
        told = [] if self.prompts == "ours" else [f"prompts {Path(self.prompts).stem}"]
        options: dict[str, Any] = {"prompts": self._digest}
        if self.paraphrases != "ensemble":
            told.append({"single": "one prompt", "each": "any prompt"}[self.paraphrases])
            options["paraphrases"] = self.paraphrases
            options |= {"draws": self.draws} if self.paraphrases == "each" else {}
        return [mb.Measurement(task, (task,), ", ".join(told), options) for task in tasks]

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
        chosen = self._chosen(prompts)
        scorers = [context.class_scorer([some[name] for name in task.classes]) for some in chosen]
        own = scorers[0] is not None
        if own:
            details = {**details, "scored_by": "the model's own heads"}
        ways = [
            cosines(context, task, some) if scorer is None else partial(scorer, task)
            for some, scorer in zip(chosen, scorers, strict=True)
        ]

        def scores(positions: Positions) -> NDArray[np.float32]:
            return np.stack([np.asarray(way(positions).numpy(), dtype=np.float32) for way in ways])  # (S, N, C)

        holdout = task.parts[0].validation if len(task.parts) == 1 else task.scored[:0]
        return mb.Predictions(
            scores=scores(task.scored),
            labels=task.labels[task.scored],
            record_ids=task.record_ids[task.scored],
            patients=task.patients[task.scored],
            classes=task.classes,
            kind="logit" if own else "ranking",
            validation=(scores(holdout), task.labels[holdout]) if len(holdout) else None,
            details=details,
        )

    def _chosen(self, prompts: Mapping[str, Sequence[str]]) -> list[dict[str, tuple[str, ...]]]:
        """Return the prompts of each set that is scored: one set, or as many as there are draws."""
        if self.paraphrases == "ensemble":
            return [{name: tuple(texts) for name, texts in prompts.items()}]
        if self.paraphrases == "single":
            return [{name: tuple(texts[:1]) for name, texts in prompts.items()}]
        return [{name: (drawn(name, texts, draw),) for name, texts in prompts.items() if texts} for draw in range(self.draws)]


def drawn(name: str, texts: Sequence[str], draw: int) -> str:
    """Return the paraphrase of the class `name` that is number `draw`; K in a row, from a multiple of K on, are all K."""
    turn, place = divmod(draw, len(texts))
    order = sorted(range(len(texts)), key=lambda i: hashlib.sha256(f"{turn}:{name}:{i}".encode()).digest())
    return texts[order[place]]


def cosines(context: mb.Context, task: mb.TaskRecords, prompts: Mapping[str, Sequence[str]]) -> Callable[[Positions], Tensor]:
    """Return the function from records to their cosines (N, C) with the directions of `prompts`."""
    directions = class_directions(context, task.classes, prompts)  # (C, D)
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
