"""What a speed is measured of is what pretraining and evaluations do: the same losses and gradients, the same batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from melp_bench.components import TextBatch, TextSource
from melp_bench.errors import UnknownName, UserError
from melp_bench.features import Features
from melp_bench.leads import LEADS
from melp_bench.plugins import discover
from melp_bench.pretrain.step import Step
from melp_bench.recipe import load_recipe
from melp_bench.runs.building import build_model, build_step
from melp_bench.runs.resolution import resolve
from melp_bench.runs.scaling import CLASSES, made_batch
from melp_bench.runs.speeds import all_names, recipe_with, subject, subject_names
from melp_bench.signal import conform
from melp_bench.testing.small import SIZES, SmallText
from melp_bench.throughput import data_path
from melp_bench.throughput.rows import DATA_PATH, KINDS, OBJECTIVE, SubjectName, Work
from melp_bench.throughput.speed import measure
from melp_bench.throughput.subject import objective_subject, text_subject

CPU, CATALOGUE = torch.device("cpu"), discover()
REPORTS = ["sinus rhythm. normal axis.", "atrial fibrillation.", "left bundle branch block. old infarct.", "pacemaker."]


def step_of(objective: str) -> tuple[Step, str]:
    """Return the step of a demo's recipe that has an objective, without dropout, and the objective's term."""
    recipe = resolve(load_recipe(recipe_with(objective, CATALOGUE)), CATALOGUE, {"encoder.layers": "1"})
    stage = next(s for s in recipe.stages if objective in [part.name for part in s.objectives])
    (part,) = (part for part in stage.objectives if part.name == objective)
    alone = stage.model_copy(update={"objectives": [part]})
    step = build_step(alone, CATALOGUE, build_model(recipe, CATALOGUE, TextSource(reports=REPORTS), seed=0), CLASSES)
    for module in step.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return step, part.term


def test_an_objective_measured_alone_has_the_loss_and_the_gradient_that_its_step_has() -> None:
    step, term = step_of("rhythm")
    batch, work = made_batch(step, REPORTS), Work(mode="train", batch=len(REPORTS))
    measured = objective_subject(SubjectName(kind=OBJECTIVE, name="rhythm"), step, term, batch, work)
    (loss,) = measured.forward()
    loss.backward()
    given = dict(step.inputs(batch, torch.Generator().manual_seed(0), 0.0))[term]
    (mean, _) = step.term(term, given, None, len(batch))
    torch.testing.assert_close(loss, mean)
    features = [value.record for value in given.values() if isinstance(value, Features)]
    wanted = torch.autograd.grad(mean, features)
    found = [leaf.grad for leaf in measured.trained if leaf.grad is not None and leaf.shape == wanted[0].shape]
    assert len(found) == 2
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert all(p.grad is None for p in step.model.parameters())  # the way back ends at the inputs


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("name", ["rhythm", "masked", "byol"])
def test_an_objective_with_an_encoder_or_a_target_inside_is_a_row_too(name: str, mode: str) -> None:
    work = Work.model_validate({"mode": mode, "batch": 4, "repeats": 2})
    (asked,) = subject_names([name], {}, CATALOGUE)
    row = measure(subject(asked, CATALOGUE, work, CPU, Path()), work, CPU)
    assert (row.kind, row.name, row.recipe) == (OBJECTIVE, name, recipe_with(name, CATALOGUE))
    assert row.records_per_second == pytest.approx(np.median(4 / np.array(row.seconds)))
    assert row.gflops_per_record > 0


def test_every_kind_has_something_and_every_objective_a_recipe() -> None:
    found, left_out = all_names(CATALOGUE)
    assert {name.kind for name in found} == set(KINDS)
    measured = {f"{name.kind} {name.name}" for name in found}
    assert measured.isdisjoint(left_out)
    assert {f"objective {entry.name}" for entry in CATALOGUE.objectives} <= measured | left_out.keys()
    for name, reason in left_out.items():
        assert "needs the option" in reason or "no shipped recipe has" in reason, name


def test_what_has_no_speed_is_told_with_what_is_near() -> None:
    with pytest.raises(UnknownName, match="did you mean 'store'"):
        subject_names(["stores"], {}, CATALOGUE)
    with pytest.raises(UserError, match="'store' has no options"):
        subject_names(["store"], {"batch": "3"}, CATALOGUE)


class TextWithLayer(SmallText):
    """The small text encoder with a layer on each word, whose operations can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(self.width, 30)

    def forward(self, batch: TextBatch) -> Features:
        made = super().forward(batch)
        words: Tensor = self.layer(made.tokens)
        return made.apply({"tokens": words})


def test_a_text_encoder_is_measured_on_its_reports_by_the_report() -> None:
    work = Work(mode="train", batch=2, repeats=2)
    encoder = TextWithLayer()
    measured = text_subject(SubjectName(kind="text encoder", name="small"), encoder, ["abc", "ab"], work, CPU)
    row = measure(measured, work, CPU)
    padded = encoder.tokenize(["abc", "ab"]).ids.shape[1]
    assert row.gflops_per_record == pytest.approx(2 * padded * SIZES.text_tokens * 30 / 1e9)
    assert row.parameters == sum(p.numel() for p in encoder.parameters())
    assert all(p.grad is None for p in encoder.parameters())


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_path, "RECORDS", 6)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("name", list(data_path.PATHS))
def test_every_way_of_reading_makes_the_batches_that_it_says(name: str, tmp_path: Path) -> None:
    asked, work = SubjectName(kind=DATA_PATH, name=name), Work(batch=4, repeats=1)
    measured = subject(asked, CATALOGUE, work, CPU, tmp_path)
    found, order = measured.forward(), np.random.default_rng(0).permutation(6)
    assert [len(batch) for batch in found] == [4, 2]
    made = data_path.NoiseRecords(6)
    signals = torch.stack([torch.from_numpy(made.signal(tmp_path, info).millivolts) for info in made.infos(tmp_path)])[order]
    if name == data_path.FILES:
        low, high = (getattr(signals, which)(dim=(1, 2), keepdim=True) for which in ("amin", "amax"))
        wanted = (signals - low) / (high - low)
    else:
        wanted = conform(signals, rate_hz=500.0, leads=LEADS, spec=data_path.SPECS[name])
    torch.testing.assert_close(torch.cat(list(found)), wanted, rtol=1e-4, atol=1e-4)
    assert measure(measured, work, CPU).records_per_second > 0
