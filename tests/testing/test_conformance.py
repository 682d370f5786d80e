"""Every installed component keeps the promises of its kind; a new one is tested by existing.

Components of more than two million parameters are slow: `-m "not slow"` leaves them out. A slow one whose depth is an option is
asked with two blocks: more of the same promise nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from melp_bench.components import ECGEncoder
from melp_bench.plugins import discover
from melp_bench.registry import Entry
from melp_bench.testing import check_component

SLOW_PARAMETERS = 2_000_000
SOURCES = {"ludb": "ludb", "ptb-xl": "ptb-xl"}
CATALOGUE = discover()


def is_slow(kind: str, entry: Entry[Any]) -> bool:
    """Return whether an ECG encoder is big, as built without memory; one that cannot be so built counts as small."""
    if kind != "ECG encoder":
        return False
    try:
        with torch.device("meta"):
            built = entry.build(**entry.resolve({}))
    except Exception:
        return False
    return isinstance(built, ECGEncoder) and sum(p.numel() for p in built.parameters()) > SLOW_PARAMETERS


def components() -> Iterator[Any]:
    for registry in CATALOGUE.registries():
        for entry in registry:
            marks = [pytest.mark.slow] if is_slow(registry.kind, entry) else []
            yield pytest.param(registry.kind, entry, marks=marks, id=f"{registry.kind}-{entry.name}".replace(" ", "-"))


@pytest.mark.parametrize(("kind", "entry"), list(components()))
def test_a_component_keeps_the_promises_of_its_kind(kind: str, entry: Entry[Any]) -> None:
    needed = [name for name, option in entry.options().items() if option.default is option.empty]
    if needed:
        pytest.skip(f"{entry.name!r} cannot be built without {needed}; its own tests build it")
    options: dict[str, Any] = {"num_records": 600} if kind == "dataset" and "num_records" in entry.options() else {}
    if "depth" in entry.options() and is_slow(kind, entry):
        options["depth"] = 2
    real, source = os.environ.get("MELP_BENCH_REAL_ECG"), None
    if kind == "dataset" and real and entry.name in SOURCES:
        folder = Path(real) / SOURCES[entry.name]
        source = folder if folder.is_dir() else None
    verdicts = check_component(kind, entry, options=options, source=source)
    if verdicts[0].ok is None:
        pytest.skip(f"{entry.name!r} {verdicts[0].detail}; its own tests build it")
    broken = "\n".join(f"{v.property}: {v.detail}" for v in verdicts if v.ok is False)
    assert not broken, f"{kind} {entry.name!r}\n{broken}"
    assert any(v.ok for v in verdicts)


def test_first_party_plugins_all_load() -> None:
    assert [b for b in CATALOGUE.broken if b.distribution == "melp-bench"] == []
