"""The step: what an objective names is made once, cut before it is conformed, done per record before ranks are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from tiny_method import Encoder, make_source, make_step, make_store
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.errors import UserError
from melp_bench.model import Model
from melp_bench.plugins import discover
from melp_bench.pretrain.source import PretrainSource
from melp_bench.pretrain.step import Batch, Step
from melp_bench.pretrain.views import looked_at, make_views
from melp_bench.recipe import Part
from melp_bench.runs.building import build_views
from melp_bench.signal import conform
from melp_bench.store import Store
from melp_plugins.views.leads import KeepLead
from melp_plugins.views.noises import Mains, Noise
from melp_plugins.views.parts import FIRST_HALF, SECOND_HALF, WHOLE, excerpt

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("stores") / "corpus")


class Looks(mb.Objective):
    """Remembers what it was given of one view; the loss is of no matter."""

    scale: ClassVar[str] = "signal"

    def __init__(self, *views: mb.View) -> None:
        super().__init__()
        self.made, self.weight = list(views), nn.Parameter(torch.ones(()))
        self.seen: dict[str, Tensor | mb.Features] = {}

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        return {"look": self.made}

    def forward(self, look: mb.Features, look_signal: Tensor) -> Tensor:
        self.seen = {"look": look, "look_signal": look_signal}
        return self.weight * look.record.mean()


@dataclass(frozen=True)
class Counted(mb.View):
    """Counts how often it is made."""

    calls: list[int]

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        self.calls.append(len(signal))
        return signal + torch.randn(signal.shape, generator=generator)


def run(step: Step, store: Store, count: int = 4) -> dict[str, tuple[Tensor, Tensor]]:
    source = make_source(store, step)
    return step(source.batch(source.train[:count], CPU), torch.Generator().manual_seed(0))


def test_a_half_is_what_the_encoder_would_be_given_of_that_half_alone(store: Store) -> None:
    objective = Looks(SECOND_HALF)
    step = make_step({"halves": objective})
    run(step, store)
    seen = objective.seen["look_signal"]
    assert isinstance(seen, Tensor)
    for row, position in enumerate(make_source(store, step).train[:4].tolist()):
        record = store.signal(position).millivolts  # (12, 100) at 100 Hz; the encoder wants a second at 50 Hz
        wanted = conform(torch.from_numpy(record[None, :, 50:]), rate_hz=100.0, leads=store.leads[position], spec=Encoder.spec)
        torch.testing.assert_close(seen[row : row + 1], wanted)
    assert seen.shape[-1] == Encoder.spec.samples


def test_every_encoder_of_fixed_length_is_given_its_length_of_a_half(store: Store) -> None:
    spec = mb.SignalSpec(rate_hz=250.0, seconds=9.0)
    half = store.batch([0, 1], spec, part=(0.0, 0.5))
    assert half.shape == (2, 12, spec.samples)
    assert half[..., :100].abs().sum() > 0
    assert not half[..., 130:].any()  # half a second of signal, and then silence


def test_halves_cover_the_record_and_share_nothing(store: Store) -> None:
    spec = mb.SignalSpec(rate_hz=100.0, seconds=1.0)
    first, second = (store.batch([0, 7], spec, part=part)[..., :50] for part in ((0.0, 0.5), (0.5, 1.0)))
    torch.testing.assert_close(torch.cat([first, second], dim=-1), store.batch([0, 7], spec))


def test_parts_of_parts_are_parts_of_the_whole() -> None:
    assert looked_at([]) == looked_at([WHOLE]) == (0.0, 1.0)
    assert looked_at([SECOND_HALF, FIRST_HALF]) == (0.5, 0.75)
    assert looked_at([excerpt(begin=0.2, end=0.6), Noise(), SECOND_HALF]) == pytest.approx((0.4, 0.6))


def test_terms_share_a_view_of_one_name_that_is_made_alike(store: Store) -> None:
    calls: list[int] = []
    alike, other = Looks(Counted(calls)), Looks(Counted(calls))
    apart = Looks(Counted([]), Noise())
    step = make_step({"one": alike, "two": other, "three": apart})
    run(step, store)
    assert calls == [4]
    assert alike.seen["look"] is other.seen["look"]
    assert alike.seen["look"] is not apart.seen["look"]


def test_two_views_of_one_recipe_under_two_names_are_two_draws() -> None:
    signal = torch.zeros(2, 12, 50)
    made = make_views({"term": {"view1": [Noise()], "view2": [Noise()]}}, {(0.0, 1.0): signal + 1}, torch.Generator())
    assert made["term"]["view1"] is not made["term"]["view2"]


def test_a_recipe_says_how_a_view_is_made(store: Store) -> None:
    catalogue = discover()
    named = {"look": [Part(name="first-half"), Part(name="noise", options={"most": 0.5})]}
    views = build_views(named, catalogue)
    assert views == {"look": [FIRST_HALF, Noise(most=0.5)]}
    step = make_step({"term": Looks(WHOLE)}, views={"term": views})
    assert step.parts == ((0.0, 0.5),)
    run(step, store)
    with pytest.raises(UserError, match=r"views \['hear'\] of 'term': it has no such view; it has look"):
        make_step({"term": Looks(WHOLE)}, views={"term": {"hear": [WHOLE]}})
    with pytest.raises(UserError, match="no view named 'nose'; did you mean 'noise'"):
        build_views({"look": [Part(name="nose")]}, catalogue)
    with pytest.raises(UserError, match="'most' of 'noise' is 7"):
        build_views({"look": [Part(name="noise", options={"most": 7.0})]}, catalogue)


class Local(mb.Objective):
    """Encodes per record, compares in `forward`."""

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, name: str = "mine") -> None:
        super().__init__()
        self.name, self.sizes = name, []

    def local(self, signal: Tensor, encoder: nn.Module, patients: Tensor) -> Mapping[str, Tensor]:
        self.sizes.append(len(signal))
        return {self.name: encoder(signal).record, "whose": patients}

    def forward(self, mine: Tensor, whose: Tensor, progress: float) -> Tensor:
        self.sizes.append(len(mine))
        self.told = (whose, progress)
        return mine.square().mean()


def test_what_is_done_per_record_sees_this_ranks_records_and_forward_those_of_all(store: Store) -> None:
    objective = Local()
    step = make_step({"local": objective})
    source = make_source(store, step)
    batch = source.batch(source.train[:4], CPU)
    step(batch, torch.Generator(), lambda tensor: torch.cat([tensor, tensor]), 0.25)
    assert objective.sizes == [4, 8]
    whose, progress = objective.told
    assert progress == 0.25
    assert torch.equal(whose[:4], batch.patients)


def test_a_name_that_local_does_not_return_is_told(store: Store) -> None:
    with pytest.raises(UserError, match=r"'Local' asks for \['mine'\] in forward; its local returns no such name"):
        run(make_step({"local": Local("other")}), store)


def test_records_of_one_patient_have_one_number_and_of_two_have_two(store: Store) -> None:
    source = make_source(store, make_step({}))
    ids = store.patient_ids[source.train]
    numbers = source.batch(source.train, CPU).patients
    assert numbers is not None
    assert len(set(ids)) < len(ids)
    for one, number in zip(ids, numbers.tolist(), strict=True):
        assert {n for i, n in zip(ids, numbers.tolist(), strict=True) if i == one} == {number}
    assert numbers.unique().numel() == len(set(ids))


def test_what_a_batch_has_not_is_told() -> None:
    step = make_step({"local": Local()})
    with pytest.raises(UserError, match="reads patients, but the batch names none"):
        step(Batch(torch.zeros(2, 12, 50)), torch.Generator())
    with pytest.raises(UserError, match="reads records, but there are only reports"):
        step(Batch(None, step.model.text_encoder.tokenize(["left"]), patients=torch.zeros(1).long()), torch.Generator())


class Held(mb.Objective):
    """Makes its own copy once it is attached."""

    scale: ClassVar[str] = "signal"

    def attach(self, model: mb.PretrainingModel) -> None:
        self.copy = nn.Linear(2, 2)

    def forward(self, ecg: mb.Features) -> Tensor:
        return self.copy.weight.sum() * ecg.record.mean()


def test_what_an_objective_builds_when_attached_is_trained_with_the_rest() -> None:
    step = make_step({"held": Held()})
    assert "objectives.held.copy.weight" in dict(step.named_parameters())


@pytest.mark.parametrize("name", ["st-mem-small", "merl-vit-tiny", "merl-resnet18"])
def test_halves_of_records_train_encoders_of_fixed_length(store: Store, name: str) -> None:
    torch.manual_seed(0)
    model = Model(discover().ecg_encoders[name].build())
    step = Step(model, {"halves": discover().objectives["cmsc"].build(model.sizes(0))})
    source = PretrainSource(store, model.encoder.spec, None, None, step.parts)
    loss, _ = step(source.batch(source.train[:2], CPU), torch.Generator())["halves"]
    assert torch.isfinite(loss)
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.encoder.parameters())


def test_what_does_not_apply_is_a_line_that_names_the_term_and_no_traceback(store: Store) -> None:
    class Refuses(Local):
        def forward(self, mine: Tensor, whose: Tensor, progress: float) -> Tensor:
            raise mb.NotApplicable("needs beats")

    with pytest.raises(UserError, match="objective 'picky' cannot train 'Encoder': needs beats"):
        run(make_step({"picky": Refuses()}), store)
    masked = discover().objectives["masked"].build(make_step({}).model.sizes(2))
    with pytest.raises(UserError, match="objective 'hidden' cannot train 'Encoder': needs an encoder with masked encoding"):
        make_step({"hidden": masked})


def test_views_are_told_once_what_the_encoder_asks_for() -> None:
    step = make_step({"look": Looks(KeepLead(lead="V6"), Mains())}, views={"look": {"look": [Mains(), KeepLead(lead="V6")]}})
    rate, leads = Encoder.spec.rate_hz, Encoder.spec.leads
    assert step.views["look"]["look"] == [Mains(rate_hz=rate), KeepLead(lead="V6", leads=leads)]
    assert rate != Mains().rate_hz
    one_lead = Encoder(0.0)
    one_lead.spec = mb.SignalSpec(rate_hz=50, seconds=1, leads=("II",))
    with pytest.raises(UserError, match="'keep-lead' is to keep 'V6'; the encoder reads II"):
        Step(Model(one_lead, None, None), {"look": Looks(KeepLead(lead="V6"))})
