"""Key templates: published to ours and back, for numbers, rests, tied tensors, prefixes and both spellings of weight-norm."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from melp_bench.errors import UserError
from melp_bench.published.family import Family, Shapes, count_blocks
from melp_bench.published.fitting import WRAPPERS, fit, publish


class Small(nn.Module):
    """Two blocks and a weight-normed convolution."""

    def __init__(self, *, depth: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(depth))
        self.positions = weight_norm(nn.Conv1d(3, 3, 5, bias=False), dim=2)
        self.table = nn.Embedding(4, 3)


def depth_of(shapes: Shapes) -> dict[str, int]:
    return {"depth": count_blocks(shapes, "blocks.{}.fc.weight")}


FAMILY = Family(
    name="small",
    anchor="blocks.0.fc.weight",
    prefixes=("net.", ""),
    renames=(("blocks.{}.fc.*", "layers.{}.*"), ("conv.*", "positions.*"), ("words.weight", "table.weight")),
    unused=(("head.*", "an old head"),),
    tied=(("out.weight", "words.weight"),),
    options=depth_of,
    elsewhere="belongs to the trainer",
)


def published(prefix: str = "", *, depth: int = 3, old: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(depth)
    shapes: dict[str, tuple[int, ...]] = {}
    for index in range(depth):
        shapes |= {f"blocks.{index}.fc.weight": (3, 3), f"blocks.{index}.fc.bias": (3,)}
    spelt = ("weight_g", "weight_v") if old else ("parametrizations.weight.original0", "parametrizations.weight.original1")
    shapes |= {f"conv.{spelt[0]}": (1, 1, 5), f"conv.{spelt[1]}": (3, 3, 5), "words.weight": (4, 3), "head.bias": (7,)}
    tensors = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    tensors["out.weight"] = tensors["words.weight"]
    return {prefix + key: tensor for key, tensor in tensors.items()}


@pytest.mark.parametrize("prefix", [wrapper + inner for wrapper in WRAPPERS for inner in ("", "net.")])
@pytest.mark.parametrize("old", [True, False])
def test_every_prefix_and_both_spellings_go_in_and_come_out(prefix: str, old: bool) -> None:
    tensors = published(prefix, old=old)
    fitted = fit({**tensors, "optimizer_step": torch.ones(1)} if prefix else tensors, FAMILY, Small)
    assert len(fitted.module.layers) == 3
    torch.testing.assert_close(fitted.module.layers[2].weight.detach(), tensors[f"{prefix}blocks.2.fc.weight"])
    assert fitted.layout.prefix == prefix
    back = publish(fitted.weights, fitted.aside, FAMILY, fitted.layout)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in tensors.items())
    assert fitted.unused[f"{prefix}head.bias"] == "an old head"
    assert "words.weight" in fitted.unused[f"{prefix}out.weight"]


def test_weight_norm_in_the_old_spelling_is_the_same_function() -> None:
    x = torch.randn(2, 3, 9)
    old, new = (fit(published(old=flag), FAMILY, Small).module for flag in (True, False))
    torch.testing.assert_close(old.positions(x), new.positions(x))


def test_keys_outside_the_prefix_are_kept_or_refused_if_the_family_says_so() -> None:
    tensors = {**published("net.", old=True), "decoder.weight_g": torch.ones(2)}
    kept = replace(FAMILY, keeps_elsewhere=True)
    fitted = fit(tensors, kept, Small)
    assert fitted.unused["decoder.weight_g"] == "belongs to the trainer"
    back = publish(fitted.weights, fitted.aside, kept, fitted.layout)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in tensors.items())
    with pytest.raises(UserError, match=r"unknown 'decoder\.weight_g'"):
        fit(tensors, replace(FAMILY, elsewhere=""), Small)


def test_a_double_that_no_single_can_hold_is_refused() -> None:
    tensors = published()
    tensors["blocks.1.fc.bias"] = torch.full((3,), 1e300, dtype=torch.float64)
    with pytest.raises(UserError, match=r"blocks\.1\.fc\.bias.*not finite"):
        fit(tensors, FAMILY, Small)


@pytest.mark.parametrize("original", [None, torch.zeros(4, 3)], ids=["absent", "different"])
def test_a_tied_key_must_repeat_its_original(original: Tensor | None) -> None:
    tensors = published()
    tensors.pop("words.weight")
    if original is not None:
        tensors["words.weight"] = original
    with pytest.raises(UserError, match="should repeat"):
        fit(tensors, FAMILY, Small)


def test_a_failed_fit_leaves_no_module_behind() -> None:
    built: list[Small] = []

    def build(*, depth: int) -> Small:
        built.append(Small(depth=depth))
        return built[-1]

    tensors = published()
    before = torch.get_rng_state()
    tensors["blocks.1.fc.bias"] = torch.zeros(4)
    with pytest.raises(UserError, match=r"blocks\.1\.fc\.bias.*\(4,\).*\(3,\)"):
        fit(tensors, FAMILY, build)
    torch.set_rng_state(before)
    untouched = Small(depth=3)
    assert all(torch.equal(a, b) for a, b in zip(built[0].parameters(), untouched.parameters(), strict=True))


@settings(deadline=None)
@given(numbers=st.lists(st.integers(0, 99), min_size=2, max_size=2), rest=st.from_regex(r"[a-z_.]{0,12}", fullmatch=True))
def test_a_rename_and_its_inverse_are_the_identity(numbers: list[int], rest: str) -> None:
    family = Family(name="f", anchor="a", renames=(("stage{}.{}.*", "layers.{}.blocks.{}.*"),))
    key = f"stage{numbers[0]}.{numbers[1]}.{rest}"
    assert family.ours(key) == f"layers.{numbers[0]}.blocks.{numbers[1]}.{rest}"
    assert family.published(family.ours(key)) == key


def test_a_dot_in_a_template_is_a_dot() -> None:
    family = Family(name="f", anchor="a", unused=(("head.weight", "x"),), renames=(("a.b", "c"),))
    assert family.unused_because("headXweight") is None
    assert family.ours("aXb") == "aXb"
