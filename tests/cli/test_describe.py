"""`melp-bench show` of every ECG encoder: what it wants, its size, its published files, what they saw, how to import them."""

from __future__ import annotations

import re

import pytest

from melp_bench.cli.describe import describe_component, describe_recipe
from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.recipe import load_recipe
from melp_bench.throughput.cost import gflops_per_record

CATALOGUE = discover()
ENCODERS = {entry.name: entry for entry in CATALOGUE.ecg_encoders}


@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_encoder_says_all_that_a_reader_asks_for(name: str) -> None:
    entry, facts = ENCODERS[name], dict(describe_component("ECG encoder", ENCODERS[name], {}))
    assert "does not build" not in facts
    if "to see more" in facts:  # it must be told where its weights are
        assert facts["published files"].startswith("none to import: its weights come with it, or from what an option names")
        return
    assert re.match(r"[\d.]+ Hz, \S+ s, \d+ leads?, [a-z-]+.*; \S", facts["wants"])
    assert int(facts["parameters"].replace(",", "")) > 0
    assert float(facts["GFLOPs per record"]) > 0
    assert all(facts[name] for name in ("summary", "corpora", "published files", "source", "licence", "plugin", "options"))
    assert bool(facts["contaminates"]) is bool(facts["said by"]) is (not facts["corpora"].startswith("none"))
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


def test_what_a_model_has_seen_names_the_tasks_that_it_spoils() -> None:
    spoilt = dict(describe_component("ECG encoder", ENCODERS["ecg-fm"], {}))["contaminates"].splitlines()
    assert "ptb-xl: ptb-xl/super, ptb-xl/sub, ptb-xl/form, ptb-xl/rhythm" in spoilt
    assert not any("ludb" in line for line in spoilt)
    assert (
        dict(describe_component("ECG encoder", ENCODERS["st-mem-base"], {}))["contaminates"].count("ptb-xl-sample/super") == 0
    )


def test_what_papers_report_is_shown_of_the_method_and_of_no_variant_of_it() -> None:
    facts = dict(describe_component("ECG encoder", ENCODERS["merl-resnet18"], {}))
    first = facts["reported"].splitlines()[0]
    assert first.startswith("MERL, linear probe 1 % by MERL's table as reprinted in FG-CLEP")
    assert "ptb-xl/super 82.4, ptb-xl/sub 64.9" in first
    assert "csn 66.9 (doubtful)" in dict(describe_component("ECG encoder", ENCODERS["st-mem-base"], {}))["reported"]
    shown = {
        name: dict(describe_recipe(load_recipe(name)))["reported"] for name in ("merl-2024", "melp-without-beat", "simclr")
    }
    assert shown["merl-2024"] == facts["reported"]
    assert shown["melp-without-beat"] == ""
    assert shown["simclr"].startswith("SimCLR, linear probe")
