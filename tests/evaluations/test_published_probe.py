"""What publications did with a probe, as options: each moves the score as it must on data where that is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import Context
from melp_bench.metrics import auroc
from melp_bench.model import Model
from melp_bench.results import Outcome
from melp_plugins.evaluations.batch_norm import embed_while_learning
from melp_plugins.evaluations.linear_probe import LinearProbe
from melp_plugins.evaluations.subsets import published_subset

Make = Callable[..., Any]
Score = Callable[..., Outcome]


def predictions(context: Context, task: Any, **options: Any) -> mb.Predictions:
    evaluation = LinearProbe(fractions=(1.0,), **options)
    return evaluation.run(context, next(iter(evaluation.expand([task.task.name]))))


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_a_softmax_is_that_of_the_logits(make_task: Make, context_of: Callable[..., Context], split: str) -> None:
    made = make_task(split=split, signal=1.0)
    context = context_of(made)
    logits, softmax = (predictions(context, made, scoring=s) for s in ("logits", "softmax"))
    assert softmax.details["scoring"] == "softmax"
    if split == "holdout":
        expected = torch.softmax(torch.from_numpy(logits.scores.astype(np.float64)), dim=-1).numpy()
        np.testing.assert_allclose(softmax.scores, expected, rtol=1e-6)
        assert (logits.kind, softmax.kind) == ("logit", "probability")


def test_a_softmax_makes_classes_that_come_together_compete(make_task: Make, score: Score) -> None:
    """Independent classes, all to be seen in the features: a record with two of them halves the share of each."""
    made = make_task(records=800, signal=2.5)
    logits, softmax = (
        score(LinearProbe(fractions=(1.0,), seeds=(0,), learning_rate=0.01, epochs=10, scoring=s), made)
        for s in ("logits", "softmax")
    )
    assert softmax.scores["auroc"].value < logits.scores["auroc"].value - 0.05


def test_the_best_epoch_on_test_is_never_below_the_one_that_validation_chose(make_task: Make, score: Score) -> None:
    made = make_task(signal=0.3, records=300, width=30)
    fair, flattered = (score(LinearProbe(fractions=(0.1,), chosen_on=c), made) for c in ("validation", "test"))
    pairs = list(zip(fair.details["auroc_by_seed"], flattered.details["auroc_by_seed"], strict=True))
    assert all(best >= chosen for chosen, best in pairs)
    assert flattered.scores["auroc"].value > fair.scores["auroc"].value
    assert flattered.details["validation"] == pytest.approx(flattered.details["auroc_by_seed"], abs=1e-6)  # chosen by it


@pytest.mark.parametrize(("rule", "rows"), [("melp", slice(None, 12)), ("merl", slice(-12, None))])
def test_a_published_subset_is_one_for_all_seeds_and_may_lack_a_class(
    make_task: Make, score: Score, rule: Any, rows: slice
) -> None:
    made = make_task(records=150)
    order = np.random.RandomState(42).permutation(120)
    assert published_subset(120, 0.1, rule).tolist() == order[rows].tolist()
    (part,) = made.task.parts
    rare = made.relabelled(part.train, 0, False).relabelled(part.train[np.setdiff1d(np.arange(120), order[rows])[:3]], 0, True)
    ours, theirs = (score(LinearProbe(fractions=(0.1,), subset=s), rare) for s in ("nested", rule))
    assert theirs.details["training_labels"] == [12]
    assert (ours.details["classes_without_training_positive"], theirs.details["classes_without_training_positive"]) == (
        [],
        ["a"],
    )


# ----------------------------------------------------------------------------------------------------------- batch norm


class Normalised(mb.ECGEncoder):
    """An encoder that hands its signal through batch normalisation."""

    projected = True

    def __init__(self, width: int, crops: mb.Crops | None = None) -> None:
        super().__init__()
        self.spec = mb.SignalSpec(rate_hz=float(width), seconds=1.0, leads=("I",), crops=crops)
        self.width, self.norm = width, nn.BatchNorm1d(width)

    def forward(self, signal: Tensor) -> mb.Features:
        normal = self.norm(signal[:, 0])
        return mb.Features(record=normal, embedding=normal)


@pytest.fixture
def normalised(make_task: Make, tmp_path: Any) -> Callable[..., tuple[Any, Context]]:
    """Return a maker of a task and a context whose model normalises by batch."""

    def maker(crops: mb.Crops | None = None, **options: Any) -> tuple[Any, Context]:
        made = make_task(**options)
        model = Model(Normalised(made.features.shape[1], crops))
        given: dict[str, Any] = {"features": tmp_path / "features", "identity": "normalised"}
        return made, Context("normalised", lambda: model, {"s": made}, lambda name: made.task, **given)

    return maker


def test_statistics_move_to_the_training_records_as_a_slow_loop_moves_them(normalised: Any) -> None:
    made, context = normalised(records=370)
    (part,) = made.task.parts
    with context.guarding("the test"):  # the model itself stays as it is
        found = embed_while_learning(context, made.task, part, seed=0)
    mean, variance = torch.zeros(12, dtype=torch.float64), torch.ones(12, dtype=torch.float64)
    generator = np.random.default_rng(0)
    expected = torch.zeros(370, 12, dtype=torch.float64)
    batches = [b for _ in range(17) for b in np.array_split(generator.permutation(part.train), 3)]  # the first 50 and no fewer
    for batch in batches:  # 296 records in batches of at most 128
        x = made.features[batch].double()
        expected[batch] = (x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + 1e-5).sqrt()
        mean, variance = 0.9 * mean + 0.1 * x.mean(dim=0), 0.9 * variance + 0.1 * x.var(dim=0, correction=1)
    rest = np.setdiff1d(np.arange(370), part.train)
    expected[rest] = (made.features[rest].double() - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_a_probe_on_statistics_that_moved_is_another_and_is_told(normalised: Any, split: str) -> None:
    """Training records are normalised by their batch, and test records by what the statistics have become."""
    made, context = normalised(records=370, split=split, signal=1.5)
    frozen, learning = (predictions(context, made, batch_norm=b, seeds=(0,), epochs=5) for b in ("frozen", "learning"))
    assert learning.details["batch_norms"] == 1
    assert "batch_norms" not in frozen.details
    assert (learning.record_ids == frozen.record_ids).all()
    assert not np.allclose(learning.scores, frozen.scores)
    areas = [auroc(one.scores[0], one.labels).mean() for one in (frozen, learning)]
    assert areas[1] == pytest.approx(areas[0], abs=0.05)  # features that were standard already lose little


def test_without_batch_normalisation_nothing_learns(make_task: Make, context_of: Callable[..., Context]) -> None:
    made = make_task()
    context = context_of(made)
    frozen, learning = (predictions(context, made, batch_norm=b, epochs=3) for b in ("frozen", "learning"))
    assert learning.details["batch_norms"] == 0
    np.testing.assert_array_equal(learning.scores, frozen.scores)


def test_crops_of_one_record_in_a_batch_are_not_applicable(normalised: Any) -> None:
    made, context = normalised(crops=mb.Crops())
    with pytest.raises(NotApplicable, match="reads records by crops"):
        predictions(context, made, batch_norm="learning")


# -------------------------------------------------------------------------------------------------------------- options


def test_a_row_tells_what_is_not_as_usual_and_the_usual_rows_keep_their_keys() -> None:
    (usual,) = LinearProbe(fractions=(0.1,)).expand(["s/x"])
    assert usual.setting == "10 %"
    assert not {"scoring", "chosen_on", "batch_norm"} & set(usual.options)
    (row,) = LinearProbe(
        fractions=(0.1,), subset="merl", scoring="softmax", chosen_on="test", batch_norm="learning"
    ).expand(["s/x"])  # fmt: skip
    assert row.setting == "10 % (merl, softmax, chosen on test, batch norm learns)"
    assert (row.options["scoring"], row.options["chosen_on"], row.options["batch_norm"]) == ("softmax", "test", "learning")


@pytest.mark.parametrize("option", ["subset", "scoring", "chosen_on", "batch_norm"])
def test_a_word_that_an_option_does_not_know_is_refused(option: str) -> None:
    with pytest.raises(UserError, match=f"has the {option} 'x'; wanted "):
        LinearProbe(**{option: "x"})
