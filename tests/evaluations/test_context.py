"""What an evaluation is handed: nothing is made that nobody asks for, and a model under test stays what it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations.frozen import changes, freeze
from melp_bench.model import Model
from melp_bench.testing.evaluations import MadeRecords, made_model, made_task
from melp_bench.testing.inputs import SmallEncoder
from melp_bench.windows import Windows, one_each


class Counted:
    """A context's model and records, with a count of what was asked of them."""

    def __init__(self, folder: Path, *, text: bool = True) -> None:
        self.task, signals = made_task("made/first")
        self.records, self.text, self.loads, self.read = MadeRecords(signals, "f"), text, 0, 0
        self.fingerprint = "f"
        self.context = mb.Context("m", self.load, {"made": self}, lambda _: self.task, features=folder, identity="m")

    def load(self) -> Model:
        self.loads += 1
        return made_model(text=self.text)

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, positions: Any, spec: mb.SignalSpec, device: Any = "cpu") -> Tensor:
        self.read += len(positions)
        return self.records.batch(positions, spec, device)

    def windows(self, positions: Any, spec: mb.SignalSpec, device: Any = "cpu") -> Windows:
        return one_each(self.batch(positions, spec, device))


def test_nothing_is_loaded_or_read_before_it_is_asked_for_and_once_then(tmp_path: Path) -> None:
    made = Counted(tmp_path)
    task = made.context.task("made/first")
    features = made.context.features(task)
    assert (made.loads, made.read) == (0, 0)
    assert features.embedding.shape == (120, 20)
    assert features.record.shape == (120, 16)
    assert (made.loads, made.read) == (1, 120)  # both of one pass
    assert features.tokens.shape == (120, 8, 20)
    assert features.segments.shape[0] == features.segments_mask.shape[0] == 120
    assert (made.loads, made.read) == (1, 240)  # tokens and segments of another
    again = made.context.features(made.context.task("made/first"))
    assert again.tokens is features.tokens


def test_what_is_kept_on_disk_needs_no_model(tmp_path: Path) -> None:
    first, second = Counted(tmp_path), Counted(tmp_path)
    one = first.context.features(first.task).embedding
    assert torch.equal(second.context.features(second.task).embedding, one)
    assert (second.loads, second.read) == (0, 0)
    for identity, records in (("code of tomorrow", "f"), ("m", "other records")):
        third = Counted(tmp_path)
        third.fingerprint = records
        held = {"made": third}
        third.context = mb.Context("m", third.load, held, lambda _: second.task, features=tmp_path, identity=identity)
        _ = third.context.features(third.task).record
        assert third.read == 120


def test_features_are_those_of_the_tasks_records_in_their_order(tmp_path: Path) -> None:
    made = Counted(tmp_path)
    some = np.array([5, 3, 99])
    task = replace(made.task, positions=some, record_ids=made.task.record_ids[some])
    expected = made.context.embed_signals(made.records.batch(some, made.context.model.encoder.spec))
    torch.testing.assert_close(made.context.features(task).embedding, expected)
    torch.testing.assert_close(made.context.signals(task, np.array([2])), made.records.batch(some[2:], SmallEncoder().spec))


def test_features_can_be_learnt_from(tmp_path: Path) -> None:
    made = Counted(tmp_path)
    features = made.context.features(made.task)
    for tensor in (
        features.embedding,
        features.tokens,
        made.context.encode(made.context.signals(made.task, np.arange(2))).record,
    ):
        weight = torch.ones(tensor.shape[-1], requires_grad=True)
        (tensor @ weight).sum().backward()
        assert weight.grad is not None


def test_what_a_model_does_not_offer_is_not_applicable(tmp_path: Path) -> None:
    made = Counted(tmp_path, text=False)
    with pytest.raises(NotApplicable, match="needs a text encoder"):
        made.context.encode_prompts(["a"])

    class NoTokens(SmallEncoder):
        def forward(self, signal: Tensor) -> mb.Features:
            features = super().forward(signal)
            return mb.Features(record=features.record, embedding=features.embedding)

    bare = Counted(tmp_path / "bare")
    bare.context._load = lambda: Model(NoTokens())
    with pytest.raises(NotApplicable, match="needs tokens, which the model does not offer"):
        _ = bare.context.features(bare.task).tokens


@pytest.mark.parametrize("kind", ["weight", "buffer", "train", "gradient", "new buffer"])
def test_an_evaluation_that_touches_the_model_is_named_and_the_model_is_loaded_anew(tmp_path: Path, kind: str) -> None:
    made = Counted(tmp_path)
    model = made.context.model
    model.encoder.register_buffer("count", torch.tensor(float("nan")))
    made.context._loaded = model, freeze(model)
    with made.context.guarding("good"):
        made.context.features(made.task)

    def touch() -> None:
        touched = made.context.model.encoder
        with made.context.guarding("bad"):
            if kind == "weight":
                touched.layers[0].bias.data[3] += 1e-7
            elif kind == "buffer":
                touched.count.fill_(1.0)
            elif kind == "train":
                touched.layers[1].train()
            elif kind == "gradient":
                touched.layers[0].bias.requires_grad_(True)
            else:
                touched.register_buffer("another", torch.zeros(1))

    with pytest.raises(UserError, match="evaluation 'bad' changed 1 parts of model 'm', the first is") as caught:
        touch()
    assert "copy.deepcopy" in str(caught.value)
    assert made.loads == 1
    assert changes(made.context.model, freeze(made_model())) == []
    assert made.loads == 2


def test_a_model_is_in_eval_mode_and_asks_for_no_gradient(tmp_path: Path) -> None:
    model = Counted(tmp_path).context.model
    assert not any(module.training for module in model.modules())
    assert not any(weight.requires_grad for weight in model.parameters())
