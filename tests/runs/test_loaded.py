"""`melp_bench.load(...).embed(...)`: plain arrays for any rate and lead order, equal to what the store path gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_checkpoint import generated_store, write_checkpoint

import melp_bench as mb
from melp_bench.embedding import embed
from melp_bench.errors import UnknownName
from melp_bench.plugins import Catalogue, discover, register
from melp_bench.registry import Entry
from melp_bench.runs.candidates import candidate, is_untrained, recipe_of
from melp_bench.runs.loaded import SCALES
from melp_bench.runs.references import RecipeReference, has_own_weights, parse, spread
from melp_bench.store import Store
from melp_bench.testing.small import SmallEncoder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return generated_store(tmp_path_factory.mktemp("store"), records=70)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def natives(store: Store, count: int) -> tuple[np.ndarray, float, tuple[str, ...]]:
    signals = [store.signal(position) for position in range(count)]
    return np.stack([one.millivolts for one in signals]), signals[0].rate_hz, signals[0].leads


def test_ten_lines_give_what_the_store_path_gives(store: Store, folder: Path, tmp_path: Path) -> None:
    model = mb.load(str(folder), device="cpu")
    kept = embed(lambda: model.model, model.identity, store, tmp_path, device=torch.device("cpu"))
    signals, rate_hz, leads = natives(store, 64)
    assert np.array_equal(model.embed(signals, rate_hz, leads), kept.embedding[:64].numpy())
    assert np.array_equal(model.embed(signals, rate_hz, leads, scale="record"), kept.record[:64].numpy())
    one = model.embed(signals[3], rate_hz, leads)
    assert (type(one), one.dtype, one.shape) == (np.ndarray, np.float32, (model.model.encoder.embedding_width,))
    np.testing.assert_allclose(one, kept.embedding[3].numpy(), rtol=1e-4, atol=1e-5)


def test_leads_go_by_name_and_limb_leads_are_derived(store: Store, folder: Path) -> None:
    model = mb.load(str(folder), device="cpu")
    signals, rate_hz, leads = natives(store, 4)
    whole = model.embed(signals, rate_hz, leads)
    order = list(reversed(range(12)))
    np.testing.assert_allclose(model.embed(signals[:, order], rate_hz, [leads[i] for i in order]), whole, rtol=1e-4, atol=1e-5)
    eight = [i for i, lead in enumerate(leads) if lead not in ("III", "aVR", "aVL", "aVF")]
    np.testing.assert_allclose(model.embed(signals[:, eight], rate_hz, [leads[i] for i in eight]), whole, rtol=0.02, atol=0.01)


def test_another_rate_is_nearly_the_same_record(folder: Path) -> None:
    model, time = mb.load(str(folder), device="cpu"), np.arange(5000) / 500
    fast = np.stack([np.sin(2 * np.pi * (1 + 0.2 * lead) * time) for lead in range(12)])
    slow = fast[:, ::2]  # nothing of it is above 125 Hz
    np.testing.assert_allclose(model.embed(slow, 250.0), model.embed(fast, 500.0), rtol=0.05, atol=0.02)


def test_segments_and_tokens_have_one_more_axis(store: Store, folder: Path) -> None:
    model = mb.load(str(folder), device="cpu")
    signals, rate_hz, leads = natives(store, 2)
    segments = model.embed(signals, rate_hz, leads, scale="segments")
    assert segments.shape == (2, 3, model.model.encoder.record_width)
    assert model.embed(signals[0], rate_hz, leads, scale="tokens").ndim == 2


class TwoLooks(SmallEncoder):
    """Reads a record by windows of its own length, and hides the last token."""

    def __init__(self, *, pool: str = "mean") -> None:
        super().__init__()
        self.spec = mb.SignalSpec(rate_hz=100.0, seconds=2.0, crops=mb.Crops(pool=pool))  # type: ignore[arg-type]

    def forward(self, signal: torch.Tensor) -> mb.Features:
        made = super().forward(signal)
        assert made.tokens is not None
        mask = torch.ones(made.tokens.shape[:2], dtype=torch.bool)
        mask[:, -1] = False
        return made.apply({"tokens_mask": mask})


class TheirPlugin:
    """An encoder that comes with weights of its own, and one that must be told where they are."""

    @mb.hookimpl
    def melp_ecg_encoders(self) -> list[mb.Entry[mb.ECGEncoder]]:
        return [
            Entry("with-weights", TwoLooks, "windows", reads=lambda *, pool: {"weights": "abc"}),
            Entry("from-folder", from_folder, "told", reads=lambda *, model: {"weights": model}),
        ]


def from_folder(*, model: str) -> SmallEncoder:
    return SmallEncoder()


@pytest.fixture
def catalogue() -> Catalogue:
    made = Catalogue()
    register(made, TheirPlugin(), "theirs")
    made.ecg_encoders.add(Entry("without", SmallEncoder, "drawn at random"))
    return made


def test_a_record_read_by_windows_has_the_pool_of_their_embeddings_and_all_their_tokens(catalogue: Catalogue) -> None:
    model = mb.load("with-weights", device="cpu", catalogue=catalogue)
    signal = np.random.default_rng(0).normal(size=(12, 650)).astype(np.float32)  # three windows of 200, and a rest
    parts = [torch.from_numpy(signal[None, :, start : start + 200]) for start in (0, 200, 400)]
    with torch.no_grad():
        made = [model.model.encoder(part) for part in parts]
    pooled = torch.stack([one.embedding[0] for one in made]).mean(dim=0)
    np.testing.assert_allclose(model.embed(signal, 100.0), pooled.numpy(), rtol=1e-4, atol=1e-6)
    tokens = model.embed(signal, 100.0, scale="tokens")
    each = made[0].tokens.shape[1]
    assert tokens.shape[0] == 3 * each
    hidden = np.isnan(tokens).all(axis=1)
    assert np.flatnonzero(hidden).tolist() == [each - 1, 2 * each - 1, 3 * each - 1]
    np.testing.assert_allclose(tokens[each : each + 3], made[1].tokens[0, :3].numpy(), rtol=1e-4, atol=1e-6)


def test_an_encoder_with_its_own_weights_is_a_model_by_its_name(catalogue: Catalogue) -> None:
    entries = catalogue.ecg_encoders
    assert [has_own_weights(entries[name]) for name in ("with-weights", "from-folder", "without")] == [True, True, False]
    reference = parse("with-weights", catalogue, bare_recipe="melp")  # whatever a protocol pretrains others by
    assert isinstance(reference, RecipeReference)
    recipe = recipe_of(reference)
    assert (recipe.name, recipe.encoder.name, is_untrained(recipe)) == ("with-weights", "with-weights", True)
    assert recipe_of(parse("without", catalogue, bare_recipe="melp")).stages  # type: ignore[arg-type]
    assert spread("random-init+*", catalogue) == ["random-init+without"]


def test_settings_reach_an_encoder_that_is_told_where_its_weights_are(catalogue: Catalogue) -> None:
    one = mb.load("from-folder", settings={"encoder.model": "here"}, device="cpu", catalogue=catalogue)
    other = mb.load("from-folder", settings={"encoder.model": "there"}, device="cpu", catalogue=catalogue)
    assert one.identity != other.identity
    assert one.folder is None
    with pytest.raises(mb.UserError, match="needs the option 'model'"):
        mb.load("from-folder", device="cpu", catalogue=catalogue)


def test_a_run_takes_it_as_it_is_without_a_budget_and_its_files_are_in_the_key(
    catalogue: Catalogue, store: Store, tmp_path: Path
) -> None:
    made = [
        candidate(
            parse("from-folder", catalogue),
            catalogue,
            settings={"encoder.model": where},
            pretrain=None,
            stores={"synthetic": store},
            checkpoints=tmp_path,
        )
        for where in ("here", "there")
    ]
    assert [one.label for one in made] == ["from-folder (encoder.model=here)", "from-folder (encoder.model=there)"]
    assert [one.identity["files"] for one in made] == [{"encoder": {"weights": "here"}}, {"encoder": {"weights": "there"}}]
    assert made[0].folder != made[1].folder
    reference = parse("melp", catalogue)
    with pytest.raises(mb.UserError, match=r"the protocol has no \[pretrain\]"):
        candidate(reference, discover(), settings={}, pretrain=None, stores={"synthetic": store}, checkpoints=tmp_path)


def test_the_identity_is_of_weights_and_code_and_not_of_the_folder(folder: Path, tmp_path: Path) -> None:
    again, other = write_checkpoint(tmp_path / "again"), write_checkpoint(tmp_path / "other", seed=1)
    identity = mb.load(str(folder), device="cpu").identity
    assert mb.load(str(again), device="cpu").identity == identity
    assert mb.load(str(other), device="cpu").identity != identity


@pytest.mark.parametrize(
    ("signal", "leads", "options", "said"),
    [
        (np.zeros(5000), mb.LEADS, {}, "wanted \\(12 leads, samples\\)"),
        (np.zeros((5000, 12)), mb.LEADS, {}, "wanted \\(12 leads, samples\\)"),
        (np.zeros((2, 5000)), ("I", "II"), {}, "cannot read this signal: .*V1"),
        (np.zeros((0, 12, 5000)), mb.LEADS, {}, "holds no record"),
        (np.zeros((12, 0)), mb.LEADS, {}, "none with a sample"),
        (np.zeros((12, 5000)), mb.LEADS, {"scale": "beats"}, "wanted one of embedding, record, segments, tokens"),
    ],
)
def test_a_signal_that_does_not_fit_is_told_in_one_line(
    folder: Path, signal: np.ndarray, leads: tuple[str, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(mb.UserError, match=said) as caught:
        mb.load(str(folder), device="cpu").embed(signal, 500.0, leads, **options)
    assert "\n" not in str(caught.value)


def test_what_has_no_weights_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(mb.UserError, match="is a recipe, and has no weights yet; pretrain it"):
        mb.load("melp")
    with pytest.raises(
        mb.UserError, match=r"is an encoder without weights; give resnet1d-18@FILE, .* or random-init\+resnet1d-18"
    ):
        mb.load("resnet1d-18")
    with pytest.raises(UnknownName, match="did you mean 'resnet1d-18'"):
        mb.load("resnet1d-81")
    with pytest.raises(mb.UserError, match="its recipe is settled"):
        mb.load(str(write_checkpoint(tmp_path)), settings={"encoder.layers": "2"})


def test_a_scale_that_is_not_offered_names_those_that_are(tmp_path: Path) -> None:
    model = mb.load(str(write_checkpoint(tmp_path, encoder="resnet1d-18", options={"width": 4})), device="cpu")
    with pytest.raises(mb.UserError, match="offers no segments; it has embedding, record, tokens"):
        model.embed(np.zeros((12, 5000)), 500.0, scale="segments")
    assert SCALES == ("embedding", "record", "segments", "tokens")
