from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import zero_shot
from melp_bench.evaluations.subject import Subject, TaskData
from melp_bench.protocol import Interval, ZeroShot

QUICK = Interval(resamples=30)
OURS = ZeroShot(name="zero_shot", tasks=["s/x"])
Make = Callable[..., TaskData]


def reader(vectors: dict[str, list[float]]) -> Subject:
    def encode(prompts: Sequence[str]) -> Tensor:
        return torch.tensor([vectors[prompt] for prompt in prompts])

    return Subject("reader", encode)


def one_hot_task(make_task: Make) -> tuple[TaskData, Subject]:
    """Return records on the sum of the directions of their classes and one direction of no class, and prompts on the former."""
    task = make_task()
    axes = torch.eye(4).tolist()
    vectors = {text: axes[c] for c, name in enumerate(task.classes) for text in task.prompts[name]}
    features = torch.tensor(np.c_[task.labels, np.ones(len(task.labels))], dtype=torch.float32)
    return replace(task, record=features), reader(vectors)


def test_aligned_vectors_score_one(make_task: Make) -> None:
    task, subject = one_hot_task(make_task)
    result = zero_shot.run(subject, task, options=OURS, interval=QUICK)
    assert result.scores["auroc"].value == result.scores["auroc"].low == 1.0
    assert result.scores["auprc"].value == pytest.approx(1.0)


def test_prompts_of_the_opposite_sense_score_zero(make_task: Make) -> None:
    task, _ = one_hot_task(make_task)
    axes = (-torch.eye(4)).tolist()
    subject = reader({text: axes[c] for c, name in enumerate(task.classes) for text in task.prompts[name]})
    assert zero_shot.run(subject, task, options=OURS, interval=QUICK).scores["auroc"].value == 0.0


def test_a_class_points_along_the_mean_of_its_normalised_paraphrases() -> None:
    subject = reader({"long": [10.0, 0.0], "short": [0.0, 0.1], "other": [3.0, 4.0]})
    directions = zero_shot.class_directions(subject, ("a", "b"), {"a": ("long", "short"), "b": ("other",)})
    np.testing.assert_allclose(directions, [[0.5**0.5, 0.5**0.5], [0.6, 0.8]], atol=1e-6)


def test_only_fold_ten_is_scored_in_a_holdout_and_everything_in_a_cross_validation(make_task: Make) -> None:
    task, subject = one_hot_task(make_task)
    assert zero_shot.run(subject, task, options=OURS, interval=QUICK).details["records"] == 40
    everything = zero_shot.run(subject, replace(task, split="cross-validate"), options=OURS, interval=QUICK)
    assert everything.details["records"] == 400


def test_neither_the_order_of_records_nor_their_length_counts(make_task: Make) -> None:
    task, _ = one_hot_task(make_task)
    generator = np.random.default_rng(0)
    vectors = {text: generator.standard_normal(4).tolist() for texts in task.prompts.values() for text in texts}
    first = zero_shot.run(reader(vectors), task, options=OURS, interval=QUICK)
    order = generator.permutation(400)
    shuffled = replace(
        task,
        labels=task.labels[order],
        record_ids=task.record_ids[order],
        patients=task.patients[order],
        folds=task.folds[order],
        embedding=task.embedding[order],
        record=task.record[order] * 8,
    )
    assert zero_shot.run(reader(vectors), shuffled, options=OURS, interval=QUICK) == first


def test_a_class_without_a_positive_is_excluded_and_listed_and_a_rare_one_marked(make_task: Make) -> None:
    task, subject = one_hot_task(make_task)
    labels = task.labels.copy()
    labels[:, 0] = False
    labels[:, 1] = False
    labels[task.folds == 10, 1] = np.arange(40) < 3
    result = zero_shot.run(subject, replace(task, labels=labels), options=OURS, interval=QUICK)
    assert result.excluded == ["a"]
    assert result.rare == ["b"]
    assert [(row.positives, not row.scores) for row in result.classes][:2] == [(0, True), (3, False)]
    scored = [row.scores["auroc"].value for row in result.classes if row.scores]
    assert result.scores["auroc"].value == pytest.approx(np.mean(scored))


def test_what_cannot_be_scored_says_why(make_task: Make, mute: Subject) -> None:
    task, subject = one_hot_task(make_task)
    with pytest.raises(NotApplicable, match="needs a text encoder"):
        zero_shot.run(mute, task, options=OURS, interval=QUICK)
    with pytest.raises(NotApplicable, match="has no prompts"):
        zero_shot.run(subject, replace(task, prompts={}), options=OURS, interval=QUICK)
    with pytest.raises(NotApplicable, match="no class has both"):
        zero_shot.run(subject, replace(task, labels=np.zeros_like(task.labels)), options=OURS, interval=QUICK)
    with pytest.raises(UserError, match=r"no prompt for \['c'\]"):
        zero_shot.run(subject, replace(task, prompts={"a": ("a",), "b": ("b",)}), options=OURS, interval=QUICK)
    broken = task.record.clone()
    broken[399] = torch.nan
    with pytest.raises(UserError, match="model 'reader' gave record features that are not finite"):
        zero_shot.run(subject, replace(task, record=broken), options=OURS, interval=QUICK)


def test_a_file_of_prompts_takes_the_place_of_ours(make_task: Make, tmp_path: Path) -> None:
    task, _ = one_hot_task(make_task)
    subject = reader(dict(zip("xyz", torch.eye(4).tolist()[:3], strict=True)))
    flat = {"a": "x", "b": ["y", "y"], "c": "z", "of another task": "w"}
    for content in (flat, {"s/x": {name: flat[name] for name in "abc"}, "s/other": {"q": "w"}}):
        path = tmp_path / "prompts.json"
        path.write_text(json.dumps(content))
        options = OURS.model_copy(update={"prompts": str(path)})
        result = zero_shot.run(subject, task, options=options, interval=QUICK)
        assert result.scores["auroc"].value == 1.0
        assert result.details["prompts_of_other_classes"] == (["of another task"] if content is flat else [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"a": "x", "b": "y"}', r"lacks \['c'\]"),
        ('{"a": "x", "b": "y", "C": "z"}', r"lacks \['c'\].* and names \['C'\]"),
        ('{"s/x": {"a": "x", "b": "y", "c": "z", "d": "w"}}', r"names \['d'\]"),
        ('{"a": "x", "b": [], "c": "z"}', "the prompt of 'b'"),
        ('{"a": "x", "b": " ", "c": "z"}', "the prompt of 'b'"),
        ("[1]", "holds a list"),
        ("{", "is not JSON"),
        (None, "cannot read prompts"),
    ],
)
def test_a_file_of_prompts_that_does_not_fit_is_one_clear_line(
    make_task: Make, tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "prompts.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=reason) as caught:
        zero_shot.prompts_for(make_task(), str(path))
    assert "\n" not in str(caught.value)
