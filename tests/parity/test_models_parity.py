"""Every model folder of the parity sets: the published outputs, within the fixture's own tolerance, in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import adapter_for
from fill import rng
from filling import Fixture, normal
from parity_folders import NONE, folders_with

RTOL, ATOL = 1e-4, 1e-5  # the set's own rule; an output may state its own atol
FOLDERS = folders_with("fixture.json")
if not FOLDERS:
    pytest.skip(f"{NONE} of fixtures", allow_module_level=True)
CASES = [(folder, output) for folder in FOLDERS for output in Fixture.read(folder).outputs]


@lru_cache(maxsize=1)
def ours(folder: Path) -> Mapping[str, torch.Tensor]:
    """Return our outputs of a folder; the latest folder's are kept, as tests come folder by folder."""
    fixture = Fixture.read(folder)
    with torch.inference_mode():
        return adapter_for(folder.name).outputs(fixture, fixture.weights(), fixture.inputs())


@lru_cache(maxsize=1)
def expected(folder: Path) -> Mapping[str, np.ndarray]:
    """Return the stored outputs of a folder."""
    return Fixture.read(folder).expected()


def worst_ratio(got: np.ndarray, want: np.ndarray, atol: float) -> float:
    """Return the largest error, in units of its tolerance; infinite where something is not finite on one side only."""
    got64, want64 = np.asarray(got, np.float64), np.asarray(want, np.float64)
    off = np.where(got64 == want64, 0.0, np.abs(got64 - want64) / (atol + RTOL * np.abs(want64)))
    return float(np.nan_to_num(off, nan=np.inf).max(initial=0.0))


def test_the_generator_is_the_sets_own() -> None:
    first = normal("demo-salt", "layer.weight", (2, 3))
    want = [[-0.0006483786, 0.7263932, -0.3237887], [1.044862, -0.8042908, 0.1734273]]
    np.testing.assert_allclose(first, want, rtol=1e-6)
    assert rng("demo-salt", "layer.weight").standard_normal() != rng("demo-salt", "other").standard_normal()


@pytest.mark.parametrize("folder", folders_with("fill.json"), ids=lambda folder: folder.name)
def test_filled_weights_have_the_stated_checksum(folder: Path) -> None:
    fixture = Fixture.read(folder)
    assert fixture.checksum(fixture.weights()) == fixture.meta["fill_checksum"]["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "output"), CASES, ids=[f"{folder.name}-{output}" for folder, output in CASES])
def test_output_matches_the_published_one(folder: Path, output: str, record_property: Callable[[str, object], None]) -> None:
    fixture = Fixture.read(folder)
    answers = ours(folder)
    assert output in answers, f"the adapter of {folder.name} does not answer {output!r}"
    full, want, stated = answers[output].detach().cpu().numpy(), expected(folder)[output], fixture.outputs[output]
    assert list(full.shape) == list(stated["full_shape"])
    got = fixture.strided(output, full)
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    ratio = worst_ratio(got, want, stated.get("atol") or ATOL)
    record_property("error_over_tolerance", ratio)
    assert ratio <= 1.0, f"{folder.name}/{output}: the error is {ratio:.2f} times the tolerance"
