"""Which state dict of a file is a family's: the only one with its anchor, the one that was chosen, or several as one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from melp_bench.errors import UserError
from melp_bench.published.family import Family
from melp_bench.published.parts import FamilyPart, part_of
from melp_bench.published.tensor_files import Published

FAMILY = Family(name="small", anchor="blocks.0.weight", prefixes=("", "encoder."))
WEIGHTS = {"blocks.0.weight": torch.ones(2), "head.bias": torch.zeros(1)}
OTHER = {"layers.0.weight": torch.ones(3)}


def chosen(parts: dict[str, dict[str, torch.Tensor]], family: Family = FAMILY) -> FamilyPart:
    return part_of(Published("f.pt", "0" * 64, parts), family)


@pytest.mark.parametrize("name", ["", "model", "encoder", "checkpoint.anything"])
def test_the_only_part_with_the_anchor_is_read_and_the_others_are_named(name: str) -> None:
    part = chosen({"decoder": OTHER, name: WEIGHTS})
    assert (part.name, part.tensors) == (name, WEIGHTS)
    assert part.beside == {"decoder.layers.0.weight": f"lies beside {name!r} in the file"}


def test_an_average_beside_the_weights_is_named_and_the_user_chooses() -> None:
    wrapped = {f"module.encoder.{key}": tensor for key, tensor in WEIGHTS.items()}
    with pytest.raises(UserError, match=r"holds 'small' weights 2 times; choose: f\.pt#model or f\.pt#model_ema$"):
        chosen({"model": WEIGHTS, "model_ema": wrapped})
    assert chosen({"model_ema": wrapped}).tensors == wrapped


def test_what_is_nested_in_a_state_dict_is_beside_it() -> None:
    part = chosen({"": WEIGHTS, "average": WEIGHTS})
    assert (part.name, part.tensors) == ("", WEIGHTS)
    assert list(part.beside) == ["average.blocks.0.weight", "average.head.bias"]


def test_parts_of_one_model_are_read_as_one() -> None:
    family = replace(FAMILY, parts=("ecg_model", "text_encoder"), prefixes=("ecg_model.", ""))
    part = chosen({"ecg_model": WEIGHTS, "text_encoder": OTHER, "discriminator": OTHER}, family)
    assert part.tensors.keys() == {*(f"ecg_model.{key}" for key in WEIGHTS), "text_encoder.layers.0.weight"}
    assert part.beside == {"discriminator.layers.0.weight": "lies beside 'ecg_model' and 'text_encoder' in the file"}
    assert chosen({"": WEIGHTS}, family).tensors == WEIGHTS


def test_a_file_without_the_anchor_is_refused_with_what_each_of_its_parts_begins_with() -> None:
    with pytest.raises(
        UserError, match=r"no 'small' weights: no key 'blocks\.0\.weight' in any.*'a' with 'layers.*'b' with"
    ) as told:
        chosen({"a": OTHER, "b": OTHER})
    assert "\n" not in str(told.value)
