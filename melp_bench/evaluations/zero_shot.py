"""Zero-shot classification: the cosine between a record and the prompt of each class. Nothing is fitted.

The rule (Radford et al. 2021, prompt ensembling): every paraphrase of a class is embedded and normalised, the paraphrases
are averaged, the mean is normalised again; a record's score for a class is its cosine to that mean. Scored on fold 10 of a
holdout and on every record where the protocol cross-validates, as no label has been seen.

Shapes: N scored records, C classes, D channels of the space shared with reports, K paraphrases.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations.scoring import outcome
from melp_bench.evaluations.subject import Subject, TaskData, require_finite
from melp_bench.protocol import Interval, ZeroShot
from melp_bench.registry import nearest
from melp_bench.results import Outcome

VERSION = 1


def run(subject: Subject, task: TaskData, *, options: ZeroShot, interval: Interval) -> Outcome:
    """Return the zero-shot outcome of `subject` on `task`.

    Raises:
        NotApplicable: the model reads no text, the task has no prompts, or nothing can be scored.
        UserError: the prompt file does not fit the task, or features are not finite.
    """
    if subject.encode_prompts is None:
        raise NotApplicable("needs a text encoder")
    prompts, details = prompts_for(task, options.prompts)
    task = task.in_record_order()
    test = task.scored()
    records = task.record[torch.from_numpy(test).to(task.record.device)].float()  # (N, D)
    require_finite(subject, records, "record features")
    directions = class_directions(subject, task.classes, prompts).to(records.device)  # (C, D)
    cosine = F.normalize(records, dim=-1) @ directions.T  # (N, C)
    scores = cosine.cpu().numpy()[None]
    return outcome(scores, task.labels[test], task.patients[test], task.classes, interval, details)


@torch.no_grad()
def class_directions(subject: Subject, classes: tuple[str, ...], prompts: Mapping[str, tuple[str, ...]]) -> Tensor:
    """Return the unit direction of each class in the shared space, shape (C, D); all prompts are encoded in one call."""
    if subject.encode_prompts is None:
        raise NotApplicable("needs a text encoder")
    flat = [text for name in classes for text in prompts[name]]
    encoded = subject.encode_prompts(flat).float()  # (K, D)
    require_finite(subject, encoded, "prompt features")
    parts = torch.split(F.normalize(encoded, dim=-1), [len(prompts[name]) for name in classes])
    return F.normalize(torch.stack([part.mean(dim=0) for part in parts]), dim=-1)


def prompts_for(task: TaskData, source: str) -> tuple[Mapping[str, tuple[str, ...]], dict[str, Any]]:
    """Return the prompts of every class of `task`, its own ("ours") or those of a JSON file, and details of them.

    Raises:
        NotApplicable: the task has no prompts of its own.
        UserError: the file does not fit the task.
    """
    if source != "ours":
        return read_prompts(Path(source), task.name, task.classes)
    if not any(task.prompts.values()):
        raise NotApplicable(f"task {task.name!r} has no prompts")
    missing = [name for name in task.classes if not task.prompts.get(name)]
    if missing:
        raise UserError(f"task {task.name!r} has no prompt for {missing}; its dataset must give every class at least one")
    return task.prompts, {"prompts": "ours"}


def read_prompts(path: Path, task: str, classes: tuple[str, ...]) -> tuple[dict[str, tuple[str, ...]], dict[str, Any]]:
    """Return the prompts of `classes` from a JSON of class -> text or list of texts, and details of them.

    A key that names the task ("synthetic/super") may hold such a JSON for that task alone; there, every name must be a
    class. A flat file may serve several tasks, as the published one does: classes of others are listed in the details.

    Raises:
        UserError: the file cannot be read, a class has no prompt, or a name is unknown.
    """
    content = _load(path)
    own = content.get(task)
    section = own if isinstance(own, dict) else content
    missing = [name for name in classes if name not in section]
    unknown = [name for name in section if name not in classes]
    if missing or (unknown and section is own):
        hints = "".join(nearest(name, unknown) for name in missing[:1])
        wrong = [f"lacks {missing}{hints}"] if missing else []
        wrong += [f"names {unknown[:20]}, not classes of the task"] if unknown else []
        raise UserError(f"{path}: for task {task!r} it {' and '.join(wrong)}; wanted class -> prompt(s) for {list(classes)}")
    prompts = {name: _texts(path, name, section[name]) for name in classes}
    return prompts, {"prompts": path.name, "prompts_of_other_classes": sorted(unknown)}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read prompts {str(path)!r}: {error.strerror}; give a JSON file, or 'ours'") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; wanted class -> prompt or list of prompts") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; wanted class -> prompt or list of prompts")
    return content


def _texts(path: Path, name: str, value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(f"{path}: the prompt of {name!r} is {value!r}; wanted a text or a list of texts, none empty")
    return tuple(texts)
