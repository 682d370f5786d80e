"""Collapse is seen where a model collapses, and nowhere else: by closed forms, and on two trainings that differ in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from alike_method import Alike
from tiny_method import Encoder, make_source, make_step, make_store
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.plugins import discover
from melp_bench.pretrain.collapse import (
    effective_rank,
    numbers_of,
    signs_in_embeddings,
    signs_in_gauges,
    signs_in_losses,
    unit_variance,
)
from melp_bench.pretrain.health import watched_validation
from melp_bench.pretrain.loop import Trained, pretrain
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.validation import Budget, validation_loss
from melp_bench.progress import StepValues
from melp_bench.recipe import Optimiser
from melp_bench.runs.training import make_fabric
from melp_bench.runs.watching import collapse_told
from melp_bench.store import Store

BUDGET = Budget(steps=40, batch_size=8, seed=1, validate_every=20)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("stores") / "corpus", num_records=120)


# ---------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_effective_rank_of_equal_singular_values_is_their_number(rank: int) -> None:
    basis = torch.linalg.qr(torch.randn(40, rank, dtype=torch.float64)).Q
    embeddings = 3.7 * basis @ torch.linalg.qr(torch.randn(16, rank, dtype=torch.float64)).Q.T
    assert effective_rank(embeddings) == pytest.approx(rank)


def test_the_effective_rank_is_the_exponential_of_the_entropy_of_the_shares() -> None:
    values = [4.0, 2.0, 1.0]
    shares = [value / sum(values) for value in values]
    wanted = math.prod(share**-share for share in shares)
    assert effective_rank(torch.diag(torch.tensor(values))) == pytest.approx(wanted)
    assert effective_rank(torch.diag(torch.tensor([*values, 0.0]))) == pytest.approx(wanted)
    assert effective_rank(torch.zeros(4, 3)) == 0.0


def test_the_variance_is_one_less_the_mean_cosine_of_all_pairs() -> None:
    embeddings = torch.randn(30, 6, generator=torch.Generator().manual_seed(1)) + 0.5
    units = F.normalize(embeddings.double(), dim=1)
    cosines = [float(units[i] @ units[j]) for i in range(30) for j in range(30)]
    assert unit_variance(embeddings) == pytest.approx(1 - sum(cosines) / 900)
    assert unit_variance(7 * embeddings) == pytest.approx(unit_variance(embeddings))
    assert unit_variance(torch.ones(9, 4)) == pytest.approx(0.0, abs=1e-12)
    assert unit_variance(torch.zeros(9, 4)) == 0.0
    assert unit_variance(torch.eye(4)) == pytest.approx(1 - 1 / 4)


def test_embeddings_that_are_one_or_lie_on_a_line_are_signs_and_others_none() -> None:
    noise = torch.randn(64, 16, generator=torch.Generator().manual_seed(2))
    line = torch.randn(64, 1, generator=torch.Generator().manual_seed(3)) @ torch.ones(1, 16)
    assert signs_in_embeddings(numbers_of("ecg", noise)) == []
    assert signs_in_embeddings(numbers_of("ecg", noise + 2)) == []
    (one_way,) = signs_in_embeddings(numbers_of("ecg", 1 + 0.02 * noise))
    assert one_way.startswith("embeddings of records point one way")
    (on_a_line,) = signs_in_embeddings(numbers_of("text", line + 1e-3 * noise))
    assert on_a_line.startswith("embeddings of reports lie on a line")
    assert numbers_of("ecg", noise[:7]) == {}
    assert numbers_of("ecg", noise / 0) == {}


def test_a_loss_is_a_sign_only_at_chance_and_only_once_a_stage_has_settled() -> None:
    chance = {"rhythm": math.log(24)}
    for loss, done, signs in [(3.178, 1.0, 1), (3.15, 1.0, 1), (3.178, 0.2, 0), (2.9, 1.0, 0), (3.6, 1.0, 0)]:
        assert len(signs_in_losses({"rhythm": loss, "token": 3.178}, chance, done=done)) == signs, (loss, done)


def test_a_gauge_is_a_sign_at_its_bounds_alone() -> None:
    gauges = {"a": mb.Gauge(0.01, 0.01, 1.0), "b": mb.Gauge(0.07, 0.01, 1.0), "c": mb.Gauge(1.0, 0.01, 1.0), "d": mb.Gauge(3.0)}
    assert [sign[0] for sign in signs_in_gauges(gauges)] == ["a", "c"]


def features(vectors: Tensor) -> mb.Features:
    one, mask = vectors[:, None], torch.ones(len(vectors), 1, dtype=torch.bool)
    return mb.Features(vectors, vectors, segments=one, segments_mask=mask, tokens=one, tokens_mask=mask)


CHANCES = {
    "rhythm": ("ecg", "text"), "beat": ("ecg", "text"), "gloria": ("ecg", "text"), "cma": ("ecg", "text"), "uma": ("vectors",),
    "simclr": ("ecg", "ecg"), "moco-v3": ("vectors",) * 4, "cmsc": ("ecg", "ecg", "patients"),
    "report-contrast": ("vectors",) * 2,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANCES)
@pytest.mark.parametrize("batch", [4, 9])
def test_what_a_contrast_calls_chance_is_its_loss_where_all_features_are_one(name: str, batch: int) -> None:
    sizes = mb.Sizes(shared=8, embedding=8, ecg_tokens=8, text_tokens=8, vocab=9)
    objective = discover().objectives[name].build(sizes).eval()
    vectors = torch.ones(batch, 8)
    given = features(vectors)
    inputs = {"ecg": given, "text": given, "vectors": vectors, "patients": torch.arange(batch) // 2}
    with torch.no_grad():
        assert objective.chance(batch) == pytest.approx(float(objective(*[inputs[word] for word in CHANCES[name]])), rel=1e-5)


def test_every_objective_that_says_what_chance_is_is_asked() -> None:
    sizes = mb.Sizes(shared=8, embedding=8, ecg_tokens=8, text_tokens=8, vocab=9, classes=3)
    ours = [entry for entry in discover().objectives if entry.build.__module__.startswith("melp_plugins")]
    said = {entry.name for entry in ours if type(entry.build(sizes)).chance is not mb.Objective.chance}
    assert {name.removesuffix("-global") for name in said} == set(CHANCES)


def test_the_temperature_of_the_rhythm_objective_is_a_gauge_that_comes_to_its_clamp() -> None:
    objective = discover().objectives["rhythm"].build(mb.Sizes(shared=8, embedding=8, ecg_tokens=8))
    gauge = objective.gauges()["temperature"]
    assert gauge.value == pytest.approx(0.07)
    assert not gauge.at_bound
    for scale, bound in ((9.0, 0.01), (-3.0, 1.0)):
        nn.init.constant_(objective.log_scale, scale)
        gauge = objective.gauges()["temperature"]
        assert gauge.value == pytest.approx(bound)
        assert gauge.at_bound


# ------------------------------------------------------------------------------------------------------------- trainings


def train(store: Store, folder: Path, *, contrasted: bool) -> tuple[Trained, list[StepValues]]:
    """Return what a training leaves, and its validations."""
    told: list[StepValues] = []
    step = make_step({"alike": Alike(contrasted=contrasted)}, dropout=0.0)
    trained = pretrain(
        step,
        {"alike": 1.0},
        make_source(store, step),
        budget=BUDGET,
        optimiser=Optimiser(learning_rate=0.05, warmup_fraction=0.0, weight_decay=0.0),
        fabric=make_fabric("cpu", "32"),
        folder=folder,
        listeners=[told.append],
    )
    return trained, [values for values in told if values.part == "validation"]


def test_an_objective_that_only_pulls_together_is_seen_to_collapse(store: Store, tmp_path: Path) -> None:
    trained, validations = train(store, tmp_path, contrasted=False)
    assert [sign.partition(" (")[0] for sign in trained.signs] == ["embeddings of records point one way"]
    assert validations[0].signs == (), "untrained weights have not collapsed"
    assert validations[-1].signs == tuple(trained.signs)
    assert validations[-1].numbers["ecg variance"] < 0.01 < validations[0].numbers["ecg variance"]
    assert trained.health["step"] == [20.0, 40.0]
    assert trained.health["ecg variance"] == [v.numbers["ecg variance"] for v in validations[1:]]
    assert json.loads(json.dumps(validations[-1].plain()))["signs"] == trained.signs


def test_the_same_with_a_contrast_is_not(store: Store, tmp_path: Path) -> None:
    trained, validations = train(store, tmp_path, contrasted=True)
    assert trained.signs == []
    assert not any(values.signs for values in validations)
    assert validations[-1].numbers["ecg rank"] > 2


def test_a_validation_that_is_watched_has_the_same_losses_and_moves_nothing(store: Store) -> None:
    step, fabric = make_step(), make_fabric("cpu", "32")
    source, weights = make_source(store, step), {"rhythm": 1.0, "beat": 0.2, "token": 2.0}
    before = {name: tensor.clone() for name, tensor in step.state_dict().items()}
    found, health = watched_validation(step, weights, source, budget=BUDGET, fabric=fabric)
    assert found == validation_loss(step, weights, source, budget=BUDGET, fabric=fabric)
    assert all(torch.equal(before[name], tensor) for name, tensor in step.state_dict().items())
    assert not step.model.encoder._forward_hooks
    assert set(health(0).numbers) == {"ecg rank", "ecg variance", "text rank", "text variance", "rhythm temperature"}
    with torch.no_grad():
        step.eval()
        records = step.model.embed(source.batch(source.validation[:8], fabric.device).signal)
    assert numbers_of("ecg", records) == pytest.approx(
        {name: value for name, value in health(0).numbers.items() if name.startswith("ecg")}, rel=1e-4
    )


class Around(mb.Objective):
    """Calls a layer of the encoder by itself, as masked modelling does."""

    scale: ClassVar[str] = "signal"

    def forward(self, signal: Tensor, encoder: mb.ECGEncoder) -> Tensor:
        return encoder.patch(signal).square().mean() if isinstance(encoder, Encoder) else signal.mean()


def test_where_a_validation_embeds_no_record_some_are_embedded_for_it(store: Store) -> None:
    step = make_step({"around": Around()})
    source, fabric = make_source(store, step), make_fabric("cpu", "32")
    _, health = watched_validation(step, {"around": 1.0}, source, budget=BUDGET, fabric=fabric)
    assert set(health(0).numbers) == {"ecg rank", "ecg variance"}
    assert step.training


def test_where_an_average_of_the_weights_is_validated_its_embeddings_are_what_is_seen(store: Store) -> None:
    fabric = make_fabric("cpu", "32")
    for term, objective in {"alike": Alike(contrasted=True), "around": Around()}.items():
        step = Step(make_step({}).model, {term: objective}, ema=0.9)
        assert step.average is not None
        with torch.no_grad():
            for parameter in step.average.module.encoder.parameters():
                parameter.zero_()
        source = make_source(store, step)
        _, health = watched_validation(step, {term: 1.0}, source, budget=BUDGET, fabric=fabric)
        assert health(0).numbers["ecg variance"] == 0.0, term


def test_a_collapse_is_told_once_and_so_is_its_end() -> None:
    said: list[str] = []
    tell = collapse_told("melp", said.append)
    for step, signs in [(0, ()), (10, ("flat",)), (20, ("flat",)), (30, ()), (40, ())]:
        tell(StepValues("alignment", "validation", step, 40, {}, 0.0, signs=signs))
        tell(StepValues("alignment", "train", step, 40, {}, 0.0))
    assert said == ["collapse melp alignment  step 10: flat", "collapse melp alignment  step 30: no sign of it any more"]


CHANCE = {
    "rhythm": math.log(24),
    "beat": math.log(24),
    "cma": 2 * math.log(24),
    "uma": 2 * math.log(24),
    "simclr": math.log(47),
}
"""Of the demo's batch of 24."""


def test_no_loss_of_the_committed_demo_is_at_chance_once_its_stage_has_settled() -> None:
    rows = Path(__file__).parents[2] / "leaderboard" / "results" / "demo"
    checked = 0
    for path in rows.glob("*.json"):
        pretraining = json.loads(path.read_text(encoding="utf-8"))["facts"].get("pretraining", {})
        if pretraining.get("batch_size") != 24:
            continue
        for stage in pretraining["stages"]:
            history = stage["history"]
            for index, step in enumerate(history["step"]):
                terms = {name: history[name][index] for name in CHANCE if name in history}
                assert signs_in_losses(terms, CHANCE, done=step / history["step"][-1]) == [], (stage["name"], step)
                checked += len(terms)
    assert checked
