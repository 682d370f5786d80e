"""Rows as a run would leave them: five methods, zero-shot, probes at three fractions and transfer, on two tasks."""

from __future__ import annotations

import random
from typing import Any

from melp_bench.canonical import digest
from melp_bench.results import ClassScore, Inputs, MetricLabel, Outcome, Resamples, ResultRecord, Score

RANKING = {"auroc": MetricLabel(label="macro AUROC"), "auprc": MetricLabel(label="macro AUPRC")}
LABELS = {"zero_shot": "zero-shot", "linear_probe": "linear probe", "transfer": "transfer"}
ORDER = [("zero_shot", ""), *(("linear_probe", f"{share} %") for share in (1, 10, 100)), ("transfer", "")]

METHODS = {"melp": 0.93, "merl": 0.925, "supervised": 0.86, "simclr": 0.82, "random-init": 0.70}
CLASSES = {"super": ("NORM", "MI", "STTC", "CD", "HYP"), "rhythm": ("SR", "AFIB", "STACH", "SBRAD", "PACE", "SVTAC", "TRIGU")}
SPEED = {"melp": 412.0, "merl": 1890.0, "supervised": 1850.0, "simclr": 1830.0, "random-init": 1900.0}


def score(value: float, half: float) -> Score:
    """Return a score with a symmetric interval inside [0, 1]."""
    return Score(value=round(value, 4), low=round(max(value - half, 0.0), 4), high=round(min(value + half, 1.0), 4))


def row(
    model: str = "melp",
    evaluation: str = "zero_shot",
    task: str = "real-sample/super",
    setting: str = "",
    *,
    auroc: Score | None = None,
    reason: str = "",
    generated: bool = False,
    protocol: str = "a" * 64,
    name: str = "real-sample",
    revision: int = 1,
    version: int = 1,
    facts: dict[str, Any] | None = None,
    classes: tuple[ClassScore, ...] = (),
    excluded: tuple[str, ...] = (),
    fingerprint: str = "f" * 64,
    resamples: Resamples | None = None,
    outcome: Outcome | None = None,
    label: str | None = None,
    order: int | None = None,
    code: dict[str, str] | None = None,
    created: str = "2026-11-20T09:30:00Z",
) -> ResultRecord:
    """Return one row; without `auroc` or an `outcome` it is not applicable."""
    inputs = Inputs(
        model={
            "recipe": {"name": model, "encoder": {"name": "resnet1d" if model != "melp" else "conv-transformer"}},
            "seed": 0,
        },
        evaluation={"name": evaluation, "options": {"setting": setting, "of": protocol[:6]}},
        datasets={task.partition("/")[0]: fingerprint},
        task=task,
        tasks={},
        interval={},
        code=code or {},
    )
    if auroc is not None:
        rare = [c.name for c in classes if 0 < c.positives < 10]
        low = score(auroc.value * 0.8, (auroc.high - auroc.low) * 0.6)
        outcome = Outcome(
            scores={"auroc": auroc, "auprc": low},
            metrics=RANKING,
            primary="auroc",
            classes=list(classes),
            excluded=list(excluded),
            rare=rare,
            resamples=resamples,
        )
    return ResultRecord(
        key=inputs.key,
        inputs=inputs,
        protocol=name,
        protocol_revision=revision,
        protocol_hash=protocol,
        model=model,
        evaluation=evaluation,
        evaluation_label=LABELS.get(evaluation, "") if label is None else label,
        order=(ORDER.index((evaluation, setting)) if (evaluation, setting) in ORDER else 99) if order is None else order,
        evaluation_version=version,
        task=task,
        setting=setting,
        generated=generated,
        status="scored" if outcome else "not-applicable",
        reason=reason if outcome is None else "",
        outcome=outcome,
        facts={"corpora": ["mimic-iv-ecg"], "parameters": 5_234_112} if facts is None else facts,
        environment={"python": "3.12.4", "torch": "2.15.0", "device": "cpu", "threads": "2"},
        created=created,
        seconds=12.25,
    )


def realistic_rows(*, generated: bool = True, dataset: str = "synthetic", name: str = "demo") -> list[ResultRecord]:
    """Return the rows of a whole run of the five methods."""
    rows = []
    for model, strength in METHODS.items():
        rng = random.Random(f"{model}{dataset}")
        facts = {
            "parameters": 11_204_358 if model == "melp" else 8_731_904,
            "corpora": [] if model == "random-init" else ["synthetic"],
            "records_per_second": SPEED[model],
            "recipe": {"name": model},
            "pretraining": {
                "steps": 320,
                "seed": 0,
                "data": "d" * 64,
                "history": {"step": [80.0, 160.0, 240.0], "total": [3.0, 1.9, 1.5], "rhythm": [2.0, 1.4, 1.1]},
            },
        }
        for task, classes in CLASSES.items():
            for evaluation, setting, loss, half in (
                ("zero_shot", "", 0.03, 0.013),
                ("linear_probe", "1 %", 0.10, 0.02),
                ("linear_probe", "10 %", 0.04, 0.015),
                ("linear_probe", "100 %", 0.0, 0.012),
            ):
                common = {"generated": generated, "protocol": digest(name), "name": name, "facts": facts}
                if evaluation == "zero_shot" and model not in ("melp", "merl"):
                    reason = "needs a text encoder" if model != "random-init" else "its text encoder is untrained"
                    rows.append(row(model, evaluation, f"{dataset}/{task}", setting, reason=reason, **common))
                    continue
                value = strength - loss + rng.uniform(-0.006, 0.006)
                per_class = tuple(_class(c, i, value, half, rng) for i, c in enumerate(classes))
                gone = tuple(c.name for c in per_class if c.positives == 0)
                task_name = f"{dataset}/{task}"
                kept = {"classes": per_class, "excluded": gone, **common}
                rows.append(row(model, evaluation, task_name, setting, auroc=score(value, half), **kept))
        value = strength - 0.08
        pair = f"{dataset}/super->{dataset}/rhythm"
        rows.append(row(model, "transfer", pair, auroc=score(value, 0.02), **common))
    return rows


def _class(name: str, index: int, value: float, half: float, rng: random.Random) -> ClassScore:
    positives = (212, 96, 41, 25, 12, 4, 0)[index]
    if positives == 0:
        return ClassScore(name=name, positives=0, records=400)
    center, width = min(value + rng.uniform(-0.05, 0.04), 0.99), half * (3 if positives < 10 else 1.4)
    scores = {"auroc": score(center, width), "auprc": score(center * 0.8, width)}
    return ClassScore(name=name, positives=positives, records=400, scores=scores)
