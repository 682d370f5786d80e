"""A model's name is understood without anything being opened, fetched or imported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from melp_bench.checkpoint import MANIFEST
from melp_bench.components import ECGEncoder
from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import Catalogue, discover
from melp_bench.protocol import load_protocol
from melp_bench.registry import Entry
from melp_bench.runs.references import CheckpointReference, PublishedReference, RecipeReference, parse, spread
from melp_bench.testing.small import SmallEncoder

CATALOGUE = discover()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("melp", RecipeReference("melp")),
        ("mine.toml", RecipeReference("mine.toml")),
        ("simclr+resnet1d-18", RecipeReference("simclr", "resnet1d-18")),
        ("folder/mine.toml+resnet1d-18", RecipeReference("folder/mine.toml", "resnet1d-18")),
        ("resnet1d-18", RecipeReference("merl", "resnet1d-18", alone=True)),
    ],
)
def test_a_recipe_is_named_alone_with_an_encoder_or_by_the_protocol(text: str, meant: RecipeReference) -> None:
    assert parse(text, CATALOGUE, bare_recipe="merl") == meant


@pytest.mark.parametrize("file", ["nowhere/weights.pth", "hf:owner/name/file.pt", "a@b.pth"])
def test_a_published_file_need_not_be_there_to_be_named(file: str) -> None:
    assert parse(f"st-mem-base@{file}", CATALOGUE) == PublishedReference(CATALOGUE.ecg_encoders["st-mem-base"], file)


def test_a_folder_is_a_checkpoint_by_its_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder without a checkpoint"):
        parse(str(tmp_path), CATALOGUE)
    (tmp_path / MANIFEST).write_text("not read")
    assert parse(str(tmp_path), CATALOGUE) == CheckpointReference(tmp_path)


def test_an_encoder_alone_is_refused_with_the_choice_of_recipes() -> None:
    with pytest.raises(UserError, match=r"give one of: .*simclr\+resnet1d-18"):
        parse("resnet1d-18", CATALOGUE)


@pytest.mark.parametrize("text", ["melpp", "resnet1d-81", "st-mem-bse@weights.pth", "melp+resnet1d-81"])
def test_a_near_miss_is_told(text: str) -> None:
    with pytest.raises(UnknownName, match="did you mean"):
        parse(text, CATALOGUE)


class Broken(SmallEncoder):
    """An encoder that cannot be built without its weights."""

    def __init__(self) -> None:
        raise OSError("no weights here")


class Large(SmallEncoder):
    """More than a demo has time for."""

    def __init__(self) -> None:
        super().__init__()
        self.layers.append(torch.nn.Linear(20, 100_000))


def test_a_star_stands_for_every_encoder_of_a_demos_size() -> None:
    catalogue = Catalogue()
    kinds: dict[str, type[ECGEncoder]] = {"small": SmallEncoder, "large": Large, "broken": Broken, "another": SmallEncoder}
    for name, kind in kinds.items():
        catalogue.ecg_encoders.add(Entry(name, kind, "for tests"))
    assert spread("random-init+*", catalogue) == ["random-init+another", "random-init+small"]
    assert spread("mine.toml+*", catalogue) == ["mine.toml+another", "mine.toml+small"]
    for name in ("melp", "simclr+small", "folder/mine.toml", "small@*.pth"):
        assert spread(name, catalogue) == [name]


def test_the_untrained_protocol_measures_the_encoders_of_the_demo_and_no_published_one() -> None:
    some = Catalogue()
    for name in ("conv-transformer", "resnet1d-18", "melp", "merl-resnet18"):
        some.ecg_encoders.add(CATALOGUE.ecg_encoders[name])
    names = [name for model in load_protocol("untrained").models for name in spread(model, some)]
    assert [parse(name, CATALOGUE) for name in names] == [
        RecipeReference("random-init", "conv-transformer"),
        RecipeReference("random-init", "resnet1d-18"),
    ]
