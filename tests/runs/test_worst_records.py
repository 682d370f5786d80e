"""The worst records of a task: errors against a slow count and the AUROC they make, and a page that draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from melp_bench.cli import _run
from melp_bench.errors import UserError
from melp_bench.prediction_files import write_predictions
from melp_bench.predictions import Predictions
from melp_bench.results import Inputs, MetricLabel, Outcome, ResultRecord, Score, write_result
from melp_bench.runs.worst_records import PAGE, record_errors, worst_records

HOSTILE = "<script>alert(1)</script>"


def made(seed: int = 0, records: int = 60, seeds: int = 2) -> Predictions:
    """Return scores of three classes with ties, the last class without a positive."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(size=(records, 3)) < np.array([0.4, 0.1, 0.0])
    labels[0, :2] = True
    scores = np.round(rng.normal(size=(seeds, records, 3)) + labels, 1)
    ids = np.array([f"r{i:02d}" for i in range(records)])
    return Predictions(scores, labels, ids, ids, ("A", HOSTILE, "NONE"), "logit")


def kept(results: Path, predictions: Predictions, model: str, setting: str = "100 %") -> None:
    inputs = Inputs(
        model={"name": model}, evaluation={"setting": setting}, task="d/super", tasks={}, datasets={"d": "f" * 64}, interval={}
    )
    score = Score(value=0.5, low=0.4, high=0.6)
    row = ResultRecord(
        key=inputs.key,
        inputs=inputs,
        protocol="p",
        protocol_revision=1,
        protocol_hash="a" * 64,
        model=model,
        evaluation="linear_probe",
        evaluation_version=1,
        task="d/super",
        setting=setting,
        generated=True,
        status="scored",
        outcome=Outcome(scores={"auroc": score}, metrics={"auroc": MetricLabel(label="AUROC")}, primary="auroc"),
        predictions=write_predictions(predictions, results),
    )
    write_result(row, results)


def test_an_error_is_the_share_of_records_on_the_wrong_side_counted_one_by_one() -> None:
    one = made()
    found = record_errors(one)
    for i in range(len(found)):
        shares = []
        for s in range(2):
            for c in range(2):
                sign = 1 if one.labels[i, c] else -1
                gaps = [
                    sign * (one.scores[s, i, c] - one.scores[s, j, c])
                    for j in range(60)
                    if one.labels[j, c] != one.labels[i, c]
                ]
                shares.append(np.mean([(gap < 0) + 0.5 * (gap == 0) for gap in gaps]))
        assert found[i] == pytest.approx(np.mean(shares))


def test_the_mean_error_of_those_that_have_a_class_is_what_the_auroc_lacks() -> None:
    one = made(seeds=1)
    alone = Predictions(one.scores[:, :, :1], one.labels[:, :1], one.record_ids, one.patients, ("A",), "logit")
    errors, has = record_errors(alone), one.labels[:, 0]
    lacks = 1 - roc_auc_score(has, one.scores[0, :, 0])
    assert errors[has].mean() == pytest.approx(lacks)
    assert errors[~has].mean() == pytest.approx(lacks)


def test_of_a_quantity_it_is_the_distance() -> None:
    labels = np.array([[50.0], [60.0]])
    ids = np.array(["a", "b"])
    scores = np.array([[[53.0], [60.0]], [[51.0], [58.0]]])
    assert record_errors(Predictions(scores, labels, ids, ids, ("age",), "value")).tolist() == [2.0, 1.0]


def test_the_worst_come_first_over_models_and_a_page_has_each_with_its_scores(tmp_path: Path) -> None:
    results = tmp_path / "results"
    kept(results, made(0), "a")
    kept(results, made(0), HOSTILE)
    kept(results, made(0), "a", setting="1 %")
    found = worst_records(results, "d/super", number=5)
    assert (found.measurement, found.models, found.num_records) == ("linear_probe 100 %", (HOSTILE, "a"), 60)
    errors = record_errors(made(0))
    assert [one.error for one in found.records] == pytest.approx(sorted(errors, reverse=True)[:5])
    assert found.records[0].record_id == f"r{int(np.argmax(errors)):02d}"
    for record in found.records:
        truth = made(0).labels[int(record.record_id[1:])]
        assert {line.name for line in record.classes if line.is_true} == {
            name for name, has in zip(("A", HOSTILE, "NONE"), truth, strict=True) if has
        }
    assert _run(["results", "worst", "d/super", "--results", str(results), "-n", "5", "--out", str(tmp_path / "w")], False) == 0
    page = (tmp_path / "w" / PAGE).read_text(encoding="utf-8")
    assert page.count("<section>") == 5
    assert "<script" not in page
    assert "their store is not here" in page


def test_what_is_not_there_is_told_with_what_is_near(tmp_path: Path) -> None:
    kept(tmp_path, made(), "melp")
    for wrong, said in (
        ({"task": "d/supr"}, "did you mean 'd/super'"),
        ({"models": ["mel"]}, "did you mean 'melp'"),
        ({"measurement": "linear_probe 10 %"}, "did you mean 'linear_probe 100 %'"),
    ):
        with pytest.raises(UserError, match=said):
            worst_records(tmp_path, **{"task": "d/super", **wrong})  # type: ignore[arg-type]
