"""The checks of metrics and evaluations find what each of these gets wrong, and nothing in a sound one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_checks_bite import broken

import melp_bench as mb

# ------------------------------------------------------------------------------------------------------------ metrics


def metric(function: Any, **change: Any) -> Any:
    return lambda: mb.Metric(**{"name": "faulty", "label": "faulty", "function": function, **change})


def hit_rate(scores: Any, labels: Any, weights: Any) -> Any:
    """Return the share of records on the right side of zero, a sound metric."""
    return ((scores >= 0) == labels).T @ weights / weights.sum(axis=0)


def by_place(scores: Any, labels: Any, weights: Any) -> Any:
    return ((scores >= 0) == labels).T @ (weights * np.linspace(0, 1, len(scores))[:, None]) / weights.sum(axis=0)


def unweighted(scores: Any, labels: Any, weights: Any) -> Any:
    return hit_rate(scores, labels, np.ones_like(weights))


def among_sets(scores: Any, labels: Any, weights: Any) -> Any:
    return hit_rate(scores, labels, weights) - 0.01 * hit_rate(scores, labels, weights).std()


def writing(scores: Any, labels: Any, weights: Any) -> Any:
    scores[0] = 0.0
    return hit_rate(scores, labels, weights)


def odds(scores: Any, labels: Any, weights: Any) -> Any:
    positive = labels.T @ weights
    with np.errstate(divide="ignore"):
        return hit_rate(scores, labels, weights) * (1 + 1e-9 / positive)


SOUND = {"needs": "thresholds", "choose": lambda scores, labels: np.zeros(scores.shape[1])}


@pytest.mark.parametrize(
    ("build", "fault"),
    [
        (metric(hit_rate, label=" ", **SOUND), "it declares what it is"),
        (metric(hit_rate, name="other", **SOUND), "it declares what it is"),
        (metric(hit_rate, needs="thresholds"), "it declares what it is"),
        (metric(lambda s, y, w: hit_rate(s, y, w)[:2], **SOUND), "it has a number per class, or one over all"),
        (metric(unweighted, **SOUND), "weights are repeated records"),
        (metric(by_place, **SOUND), "the order of the records does not matter"),
        (metric(among_sets, **SOUND), "a set of weights does not depend on others"),
        (metric(lambda s, y, w: 100 * hit_rate(s, y, w), **SOUND), "its values lie within its bounds"),
        (metric(hit_rate, higher_is_better=False, **SOUND), "perfect scores are better than random ones"),
        (metric(odds, bounds=(0.0, 2.0), **SOUND), "a resample may lose a class"),
        (metric(writing, **SOUND), "its values lie within its bounds"),
        (lambda: hit_rate, "it builds"),
    ],
)
def test_a_faulty_metric_is_found_out(build: Any, fault: str) -> None:
    assert fault in broken("metric", build)


def test_a_sound_metric_breaks_nothing() -> None:
    assert broken("metric", metric(hit_rate, **SOUND)) == {}


# -------------------------------------------------------------------------------------------------------- evaluations


class Sound(mb.Evaluation):
    """The mean of an embedding, whatever the class."""

    version, label, metrics = 1, "sound", ("auroc", "auprc")

    def expand(self, tasks: Any) -> Any:
        return [mb.Measurement(task, (task,)) for task in tasks]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        task = context.task(measurement.task)
        return self.told(task, task.scored, context.features(task).embedding.mean(dim=1).numpy())

    def told(self, task: mb.TaskRecords, where: Any, means: Any) -> mb.Predictions:
        scores = np.repeat(means[where][None, :, None], len(task.classes), axis=2)
        return mb.Predictions(scores, task.labels[where], task.record_ids[where], task.patients[where], task.classes)


class NoRows(Sound):
    def expand(self, tasks: Any) -> Any:
        return []


class OptionsThatAreNoJSON(Sound):
    def expand(self, tasks: Any) -> Any:
        return [mb.Measurement(task, (task,), options={"path": Path("x")}) for task in tasks]


class RowsThatKnowTheirNeighbours(Sound):
    def expand(self, tasks: Any) -> Any:
        return [mb.Measurement(task, (task,), options={"of": len(tasks)}) for task in tasks]


class ScoresTwice(Sound):
    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        task = context.task(measurement.task)
        return self.told(task, np.append(task.scored, task.scored[:1]), context.features(task).embedding.mean(dim=1).numpy())


class ScoresTraining(Sound):
    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        task = context.task(measurement.task)
        return self.told(task, task.parts[0].train, context.features(task).embedding.mean(dim=1).numpy())


class TrainsTheModel(Sound):
    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        predictions = super().run(context, measurement)
        next(context.model.parameters()).data.add_(1e-6)
        return predictions


class LetsBatchNormLearn(Sound):
    """As a public suite does: weights are frozen, statistics are not, and the model is in eval mode again afterwards."""

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        predictions, task = super().run(context, measurement), context.task(measurement.task)
        context.model.train()
        context.encode(context.signals(task, task.parts[0].train))
        context.model.eval()
        return predictions


class UsesSharedRandomNumbers(Sound):
    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        predictions = super().run(context, measurement)
        return replace(predictions, scores=predictions.scores + torch.randn(1).numpy())


class SeedsForEveryone(Sound):
    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        torch.manual_seed(0)
        return super().run(context, measurement)


class ReadsThePlaceInTheStore(Sound):
    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        task = context.task(measurement.task)
        return self.told(task, task.scored, task.positions.astype(float))


class PeeksAtTestLabels(Sound):
    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        predictions = super().run(context, measurement)
        return replace(predictions, scores=predictions.scores + 0.1 * predictions.labels)


class FindsOutTooLate(Sound):
    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        context.encode_prompts(["x"])
        return super().run(context, measurement)


class RefusesWhatItCanScore(Sound):
    def fits(self, model: mb.ModelTraits) -> str | None:
        return None if model.reads_text else "needs a text encoder"


@pytest.mark.parametrize(
    ("build", "property"),
    [
        (NoRows, "it expands into rows of plain JSON"),
        (OptionsThatAreNoJSON, "it expands into rows of plain JSON"),
        (RowsThatKnowTheirNeighbours, "its rows do not depend on their neighbours"),
        (ScoresTwice, "every test record is scored once, and the model stays as it was"),
        (ScoresTraining, "every test record is scored once, and the model stays as it was"),
        (TrainsTheModel, "every test record is scored once, and the model stays as it was"),
        (LetsBatchNormLearn, "every test record is scored once, and the model stays as it was"),
        (UsesSharedRandomNumbers, "two runs are equal, and nobody else's random numbers are moved"),
        (SeedsForEveryone, "two runs are equal, and nobody else's random numbers are moved"),
        (ReadsThePlaceInTheStore, "the order of records does not matter"),
        (PeeksAtTestLabels, "labels of test records reach no score"),
        (FindsOutTooLate, "it says of a model beforehand whether it fits"),
        (RefusesWhatItCanScore, "it says of a model beforehand whether it fits"),
    ],
)
def test_a_fault_of_an_evaluation_is_found(build: Any, property: str) -> None:
    assert broken("evaluation", Sound) == {}
    assert property in broken("evaluation", build)
