"""The model, with MELP's heads: every scale lands in the shared space, and what is projected already is left alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.model import Model, widths_of
from melp_bench.plugins import discover

SHARED, WIDTH = 12, 6
HEADS = discover().heads["melp"]


def made(encoder: mb.ECGEncoder, text: mb.TextEncoder | None = None, *, width: int = SHARED, queries: int = 12) -> Model:
    """Return the model of the encoders with MELP's heads."""
    return Model(encoder, text, HEADS.build(widths_of(encoder, text), width=width, queries=queries))


class Encoder(mb.ECGEncoder):
    """Linear in the signal's windows; offers beats, and is projected, as told."""

    def __init__(self, *, beats: bool, projected: bool = False, says: int | None = None) -> None:
        super().__init__()
        self.spec = mb.SignalSpec(rate_hz=10.0, seconds=4.0)
        self.width, self.projected, self.segments, self.says = WIDTH, projected, beats, says
        self.out = SHARED if projected else WIDTH
        self.window, self.projection = nn.Linear(12 * 5, WIDTH), nn.Linear(WIDTH, self.out)

    @property
    def record_width(self) -> int:
        return self.out if self.says is None else self.says

    @property
    def embedding_width(self) -> int:
        return WIDTH

    def forward(self, signal: Tensor) -> mb.Features:
        tokens = self.window(signal.unfold(2, 5, 5).transpose(1, 2).flatten(2))
        beats = self.projection(tokens)
        offered = beats if self.segments else None
        return mb.Features(record=beats.mean(dim=1), embedding=tokens.mean(dim=1), segments=offered, tokens=tokens)


class Text(mb.TextEncoder):
    """An embedding table."""

    def __init__(self, *, projected: bool = False) -> None:
        super().__init__()
        self.projected, self.vocab_size, self.pad_id, self.causal = projected, 9, 0, False
        self.width = SHARED if projected else WIDTH
        self.table = nn.Embedding(9, self.width)

    def tokenize(self, reports: object) -> mb.TextBatch:
        raise NotImplementedError

    def forward(self, batch: mb.TextBatch) -> mb.Features:
        states = self.table(batch.ids)
        return mb.Features(states[:, 0], states[:, 0], states[:, 1:], batch.mask[:, 1:], states, batch.mask, batch.ids)


def signal() -> Tensor:
    return torch.randn(3, 12, 40, generator=torch.Generator().manual_seed(3))


def words() -> mb.TextBatch:
    ids = torch.randint(1, 9, (3, 5), generator=torch.Generator().manual_seed(4))
    return mb.TextBatch(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids))


@pytest.mark.parametrize("beats", [True, False])
@pytest.mark.parametrize("projected", [True, False])
def test_every_scale_is_in_the_shared_space(beats: bool, projected: bool) -> None:
    model = made(Encoder(beats=beats, projected=projected), Text(projected=projected), queries=7)
    ecg, text = model(signal(), words())
    assert ecg.record.shape == text.record.shape == (3, SHARED)
    assert ecg.segments.shape == (3, 8 if beats else 7, SHARED)
    assert text.segments.shape == (3, 4, SHARED)
    assert ecg.tokens.shape[-1] == WIDTH


def test_rhythm_is_the_mean_of_the_projected_beats_where_the_encoder_has_beats() -> None:
    ecg = made(Encoder(beats=True)).ecg(signal())
    assert ecg.segments is not None
    torch.testing.assert_close(ecg.record, ecg.segments.mean(dim=1))


def test_what_is_projected_is_left_alone() -> None:
    encoder, text = Encoder(beats=True, projected=True), Text(projected=True)
    model = made(encoder, text)
    ecg, report = model(signal(), words())
    assert torch.equal(ecg.record, encoder(signal()).record)
    assert torch.equal(ecg.segments, encoder(signal()).segments)
    assert torch.equal(report.record, text(words()).record)
    assert torch.equal(report.segments, text(words()).segments)


def test_probes_read_the_encoder_and_no_head() -> None:
    encoder = Encoder(beats=True)
    model = made(encoder)
    assert torch.equal(model.embed(signal()), encoder(signal()).embedding)
    assert torch.equal(model.ecg(signal()).embedding, model.embed(signal()))


def test_without_segment_queries_no_beats_are_made() -> None:
    model = made(Encoder(beats=False), queries=0)
    assert model.ecg(signal()).segments is None
    assert not any("pool" in name for name, _ in model.named_parameters())


def test_every_parameter_of_the_model_is_trained_by_its_features() -> None:
    for beats in (True, False):
        model = made(Encoder(beats=beats), Text())
        ecg, text = model(signal(), words())
        sum(f.present()[n].square().sum() for f in (ecg, text) for n in ("record", "segments", "tokens")).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_sizes_say_what_the_features_are() -> None:
    sizes = made(Encoder(beats=True), Text()).sizes(classes=4)
    assert sizes == mb.Sizes(
        shared=SHARED, embedding=WIDTH, ecg_tokens=WIDTH, text_tokens=WIDTH, vocab=9, pad_id=0, classes=4, causal_text=False
    )
    assert made(Encoder(beats=True)).sizes().text_tokens == 0


def test_building_leaves_the_encoder_in_its_mode() -> None:
    for training in (True, False):
        assert made(Encoder(beats=True).train(training)).encoder.training is training


def test_a_width_that_is_not_as_stated_is_named() -> None:
    with pytest.raises(mb.UserError, match=r"'Encoder' returns record with 6 channels, and says 5"):
        made(Encoder(beats=False, says=5))


def test_projected_encoders_set_the_shared_width() -> None:
    with pytest.raises(mb.UserError, match=r"set heads.width=12"):
        made(Encoder(beats=True, projected=True), width=8)
    with pytest.raises(mb.UserError, match=r"text encoder .* set heads.width=12"):
        made(Encoder(beats=True), Text(projected=True), width=8)


def test_reports_need_a_text_encoder() -> None:
    with pytest.raises(mb.UserError, match="no text encoder"):
        made(Encoder(beats=True)).text(words())


def test_without_heads_features_are_as_the_encoders_make_them() -> None:
    encoder, text = Encoder(beats=False), Text()
    model = Model(encoder, text)
    assert model.shared == WIDTH
    assert torch.equal(model.ecg(signal()).record, encoder(signal()).record)
    assert torch.equal(model.text(words()).record, text(words()).record)
    with pytest.raises(mb.UserError, match=r"records have 12 channels and reports 6, and no \[heads\]"):
        Model(Encoder(beats=True, projected=True), text)


@pytest.mark.parametrize(
    ("names", "frozen"),
    [
        (["encoder"], {"encoder.window", "encoder.projection"}),
        (["encoder.window", "text"], {"encoder.window", "text_encoder.table"}),
        (["heads.report.0"], {"heads.report.0"}),
    ],
)
def test_what_is_frozen_is_not_trained_and_stays_in_eval_until_it_is_given_back(names: list[str], frozen: set[str]) -> None:
    model = made(Encoder(beats=False), Text())
    next(iter(model.heads.parameters())).requires_grad_(False)  # as a builder may have left it
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    thaw = model.freeze(names)
    model.train()
    for name, parameter in model.named_parameters():
        below = any(name.startswith(f"{prefix}.") for prefix in frozen)
        assert parameter.requires_grad == (before[name] and not below), name
    modes = {name: module.training for name, module in model.named_modules()}
    assert {name for name in modes if not modes[name]} >= frozen
    assert modes[""]
    thaw()
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert all(module.training for module in model.modules())


def test_a_name_that_freezes_nothing_is_refused() -> None:
    with pytest.raises(mb.UserError, match=r"freeze names 'encoder\.windw', and the model has no parameter"):
        made(Encoder(beats=True)).freeze(["encoder.windw"])
