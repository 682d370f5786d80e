"""Two protocols beside each other: which rows belong together, by how much they differ, and the page that says so."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from melp_bench.board.score_moves import Move
from melp_bench.cli import _run
from melp_bench.errors import UnknownName, UserError
from melp_bench.measure import measure
from melp_bench.metrics.paired import paired_difference
from melp_bench.plugins import discover
from melp_bench.protocol import Protocol, load_protocol
from melp_bench.results import Interval, MetricLabel, Score, read_results
from melp_bench.runs.run_spec import make_spec
from melp_bench.runs.side_by_side import _pairs, best_changes, specs_beside
from melp_bench.runs.verification import row_metrics

CATALOGUE = discover()
SAMPLES = ("melp-2025-sample", "merl-2024-sample")


def evaluations(name: str) -> set[tuple[str, str]]:
    return {(use.name, task.replace("-sample", "")) for use in load_protocol(name).evaluations for task in use.tasks}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_protocol_is_the_published_one_on_other_datasets(name: str) -> None:
    sample, whole = load_protocol(name), load_protocol(name.replace("sample", "published"))
    assert set(sample.defects) == set(whole.defects)
    assert evaluations(name) <= evaluations(whole.name)
    for mine, theirs in zip(sample.evaluations, whole.evaluations, strict=True):
        assert (mine.name, mine.options, mine.metrics) == (theirs.name, theirs.options, theirs.metrics)
    assert sample.datasets["ptb-xl-sample"].moved_columns["sub"] == ["ISC", "AVB", "RAO/RAE"]
    assert sample.datasets["csn-sample"].labels == "substring"
    assert sample.datasets["cpsc2018-sample"].model_dump()["seconds"] == whole.datasets["cpsc2018"].seconds == 5.0


def test_the_corrected_sample_is_what_is_recommended_with_the_checkpoints_of_the_sample_board() -> None:
    sample, whole, board = (load_protocol(name) for name in ("corrected-sample", "corrected-v1", "ptb-xl-sample"))
    for mine, theirs in zip(sample.evaluations, whole.evaluations, strict=True):
        assert (mine.name, mine.options, mine.metrics) == (theirs.name, theirs.options, theirs.metrics)
    for name in (sample.name, *SAMPLES):
        assert load_protocol(name).pretrain == board.pretrain
        assert load_protocol(name).models == board.models
    (probe,) = [use for use in whole.evaluations if use.name == "linear_probe"]
    assert probe.options == {"solver": "lbfgs"}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_row_of_a_published_sample_has_its_own_beside_it(name: str) -> None:
    pairs, alone = _pairs(load_protocol("corrected-sample"), load_protocol(name), CATALOGUE)
    assert {(place, name) for place, _, name in alone} == {
        ("zero_shot (2)", "in corrected-sample alone"),
        ("knn", "in corrected-sample alone"),
    }
    for pair in pairs:
        assert (pair.one.name, pair.one.measurement.task) == (pair.two.name, pair.two.measurement.task)
        assert pair.one.measurement.options.get("fraction") == pair.two.measurement.options.get("fraction")
    assert len(pairs) == 6 + 4 * 3 + 2 + 2


def test_rows_that_are_not_as_many_are_listed_and_not_paired() -> None:
    one, two = (
        Protocol.model_validate(
            {
                "name": name,
                "revision": 1,
                "summary": "",
                "datasets": {"s": {"dataset": "synthetic"}},
                "evaluations": [{"name": "linear_probe", "tasks": tasks, "options": {"fractions": fractions}}],
            }
        )
        for name, tasks, fractions in (("a", ["s/super", "s/form"], [0.1, 1.0]), ("b", ["s/super"], [1.0]))
    )
    pairs, alone = _pairs(one, two, CATALOGUE)
    assert pairs == []
    assert alone == [("linear_probe", "s/super", "2 rows in a, 1 in b"), ("linear_probe", "s/form", "in a alone")]


def test_another_best_model_is_counted_once_per_measurement() -> None:
    def move(group: str, task: str, before: float, after: float, *, higher: bool = True) -> Move:
        label = MetricLabel(label="m", higher_is_better=higher)
        one, two = (Score(value=value, low=0.0, high=1.0) for value in (before, after))
        return Move(group, "probe", task, "", label, one, two)

    turned = [move("a", "x", 0.9, 0.7), move("b", "x", 0.8, 0.8)]
    kept = [move("a", "y", 0.9, 0.7), move("b", "y", 0.8, 0.6)]
    errors = [move("a", "z", 0.1, 0.3, higher=False), move("b", "z", 0.2, 0.2, higher=False)]
    assert best_changes([*turned, *kept, *errors, move("a", "alone", 0.1, 0.9)]) == (2, 3)


def test_a_protocol_does_not_stand_beside_itself() -> None:
    spec = make_spec("demo")
    with pytest.raises(UserError, match="protocol 'demo' would stand beside itself"):
        specs_beside(spec, ["demo"])
    with pytest.raises(UnknownName, match="dem"):
        specs_beside(spec, ["dem"])


# ------------------------------------------------------------------------------------------------------- end to end

TINY = """
name = "{name}"
revision = 1
summary = "for tests"
models = ["random-init", "random-init+resnet1d-18"]
{defects}

[datasets.synthetic]
dataset = "synthetic"
options = {{ num_records = 120, seed = 0 }}

[pretrain]
dataset = "synthetic"
steps = 1

[interval]
resamples = 50

[[evaluations]]
name = "linear_probe"
tasks = ["synthetic/super"]
metrics = ["auroc", "max-f1"]
options = {{ fractions = [0.5, 1.0], seeds = {seeds}, epochs = 3 }}

[[evaluations]]
name = "zero_shot"
tasks = ["synthetic/super"]
{more}
"""


def test_the_command_runs_both_and_puts_every_score_beside_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    ours, theirs = tmp_path / "ours.toml", tmp_path / "theirs.toml"
    knn = '[[evaluations]]\nname = "knn"\ntasks = ["synthetic/super"]'
    ours.write_text(TINY.format(name="ours", defects="", seeds=[0, 1], more=knn), encoding="utf-8")
    switched = "[defects]\nsoftmax-scoring = true\ntest-thresholds = true\nfirst-5-seconds = true"
    theirs.write_text(TINY.format(name="theirs", defects=switched, seeds=[42], more=""), encoding="utf-8")
    arguments = ["run", str(ours), "--beside", str(theirs), "--device", "cpu", "--workers", "1"]

    def call(*more: str, status: int = 0) -> str:
        assert _run([*arguments, "--out", str(tmp_path / "out"), *more], verbose=False) == status
        return capsys.readouterr().out

    assert "protocol theirs" in call("--dry-run")
    assert not (tmp_path / "out").exists()
    assert "theirs-beside-ours.html" in call()
    page = tmp_path / "out" / "beside" / "theirs-beside-ours"
    rows = list(csv.DictReader(page.with_suffix(".csv").read_text(encoding="utf-8").splitlines()))
    assert {(row["model"], row["setting"], row["metric"]) for row in rows} == {
        (model, f"{share} against {share} (softmax)", metric)
        for model in ("random-init", "random-init+resnet1d-18")
        for share in ("50 %", "100 %")
        for metric in ("macro AUROC", "macro F1")
    }
    made = {(r.protocol, r.model, r.setting.partition(" (")[0]): r for r in read_results(tmp_path / "out" / "results")
            if r.evaluation == "linear_probe"}  # fmt: skip
    for row in rows:
        assert float(row["difference"]) == pytest.approx(float(row["theirs"]) - float(row["ours"]))
        assert float(row["difference_low"]) <= float(row["difference"]) <= float(row["difference_high"])
        for protocol in ("ours", "theirs"):
            record = made[protocol, row["model"], row["setting"].partition(" against")[0]]
            metric = row_metrics(record, CATALOGUE)[row["metric"] == "macro F1"]
            assert record.outcome is not None
            assert float(row[protocol]) == record.outcome.scores[metric.name].value
    assert "knn in synthetic/super: in ours alone" in page.with_suffix(".md").read_text(encoding="utf-8")
    assert "measurements of several models, another model scores best" in page.with_suffix(".html").read_text(encoding="utf-8")
    index = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert 'The same models under two protocols: <a href="beside/theirs-beside-ours.html">' in index
    assert "0 rows to compute" in call()


def test_the_interval_is_that_of_the_paired_bootstrap_on_the_predictions(tmp_path: Path) -> None:
    """The page's way, by resamples of each row, is the one that resamples both at once."""
    from melp_bench.measure import unpack
    from melp_bench.metrics.paired import difference_of
    from melp_bench.predictions import Predictions

    generator = np.random.default_rng(0)
    labels = generator.random((90, 3)) < 0.3
    patients = np.array([f"p{i // 2}" for i in range(90)])
    scores = [labels + generator.normal(0, spread, (seeds, 90, 3)) for spread, seeds in ((1.0, 3), (1.5, 1))]
    (metric,) = [CATALOGUE.metrics["auroc"].build()]
    outcomes = [
        measure(
            Predictions(one, labels.astype(float), np.arange(90).astype(str), patients, ("a", "b", "c"), kind="logit"),
            [metric],
            Interval(resamples=200),
        )
        for one in scores
    ]
    values = [unpack(outcome.resamples.values) for outcome in outcomes]
    found = difference_of(outcomes[0].scores["auroc"].value - outcomes[1].scores["auroc"].value, *values, 0.95)
    wanted = paired_difference(scores[0], scores[1], labels, patients, metric=metric, resamples=200)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
