"""Which recipes, encoders and models are of a method that papers report numbers of: one table says it for all."""

from __future__ import annotations

import pytest

from melp_bench.board.reported import _file, method_of, reported_of
from melp_bench.plugins import discover
from melp_bench.recipe import recipe_names


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("merl-2024", "MERL"),
        ("merl-2024-simclr", "SimCLR"),
        ("merl-2024 (steps 10)", "MERL"),
        ("merl+resnet1d-18", "MERL"),
        ("merl-resnet18-encoder", "MERL"),
        ("melp-2025-readme", "MELP"),
        ("melp-without-beat", ""),
        ("merl-resnet18@weights.pth", ""),
        ("somebodys-merl", ""),
    ],
)
def test_a_method_is_told_by_the_whole_name(name: str, method: str) -> None:
    """SimCLR on MERL's encoder was told apart from MERL on the board, and nowhere else."""
    assert method_of(name) == method
    assert {cell.method for cell in reported_of(name)} == ({method} if method else set())


def test_every_method_of_the_table_is_reported_and_a_recipe_or_an_encoder_here() -> None:
    names = [*recipe_names(), *(entry.name for entry in discover().ecg_encoders)]
    shown = {method_of(name): name for name in names}
    assert set(_file()["methods"]) == set(shown) - {""}
    assert all(reported_of(name) for method, name in shown.items() if method)
