"""`melp-bench show` of every ECG encoder: what it wants, its size, its published files, what they saw, how to import them."""

from __future__ import annotations

import re

import pytest

from melp_bench.cli.describe import describe_component
from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.throughput.cost import gflops_per_record

CATALOGUE = discover()
ENCODERS = {entry.name: entry for entry in CATALOGUE.ecg_encoders}


@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_encoder_says_all_that_a_reader_asks_for(name: str) -> None:
    entry, facts = ENCODERS[name], dict(describe_component("ECG encoder", ENCODERS[name], {}))
    assert "does not build" not in facts
    assert re.match(r"\d+ Hz, \S+ s, \d+ leads?, [a-z-]+.*; \S", facts["wants"])
    assert int(facts["parameters"].replace(",", "")) > 0
    assert float(facts["GFLOPs per record"]) > 0
    assert all(facts[name] for name in ("summary", "corpora", "published files", "source", "licence", "plugin", "options"))
    if entry.published is None:
        assert "import" not in facts
        return
    assert re.match(rf"melp-bench import \S+ --family {name}(\s|$)", facts["import"])
    assert facts["evaluate"].startswith(f"melp-bench run PROTOCOL --model {name}@")
    assert ("--text hf:" in facts["import"]) is (entry.published.text is not None)


def test_what_is_counted_without_memory_is_what_an_encoder_does() -> None:
    facts, encoder = dict(describe_component("ECG encoder", ENCODERS["resnet1d-18"], {})), ENCODERS["resnet1d-18"].build()
    assert facts["GFLOPs per record"] == f"{gflops_per_record(encoder):.3g}"
    assert facts["parameters"] == f"{sum(p.numel() for p in encoder.parameters()):,}"


def test_an_encoder_that_does_not_build_says_why_and_shows_the_rest() -> None:
    facts = dict(describe_component("ECG encoder", ENCODERS["resnet1d-18"], {"width": 0}))
    assert "positive" in facts["does not build"]
    assert facts["licence"] == "MIT"


def test_a_component_that_must_be_told_what_to_build_shows_the_rest_and_how_to_tell_it() -> None:
    facts = dict(describe_component("text encoder", CATALOGUE.text_encoders["hf"], {}))
    assert facts["to see more"] == "melp-bench show hf --option model=VALUE"
    assert "does not build" not in facts
    assert facts["options"].startswith("model = (must be given)\n")
    with pytest.raises(UserError, match="needs the option 'model'"):
        describe_component("text encoder", CATALOGUE.text_encoders["hf"], {"causal": "true"})


def test_a_reference_of_18_layers_stands_beside_those_of_34_and_50() -> None:
    sizes = [sum(p.numel() for p in ENCODERS[f"resnet1d-{name}"].build().parameters()) for name in ("18-plain", "34", "50")]
    assert 3.9e6 < sizes[0] < sizes[1] < sizes[2]
    assert "resnet1d-18-plain" in ENCODERS["resnet1d-18"].summary
