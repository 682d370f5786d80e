"""Every encoder of the catalogue is one graph to `torch.compile`, which serves any number of records.

ECG encoders are built on the meta device, where only shapes are computed: what is traced there is what is compiled elsewhere.
Of layers that are all alike one is traced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from melp_bench.components import ECGEncoder, TextSource
from melp_bench.plugins import discover
from melp_bench.registry import Entry
from melp_bench.runs.components import num_parameters_of

CATALOGUE, BATCHES = discover(), (2, 3, 5)
BREAKS = {"heartlang": "Data-dependent branching"}
"""Modules whose encoders are no single graph, and why: HeartLang looks for beats in each record, which decide its tokens."""


@pytest.fixture(autouse=True)
def _without_trace(caplog: pytest.LogCaptureFixture) -> None:
    """Keep the compiler's log of its own steps, which takes half of the time, out of what pytest captures."""
    caplog.set_level(logging.WARNING, logger="torch.__trace")


def kinds() -> list[Entry[ECGEncoder]]:
    """Return the smallest entry of each class of encoders: others differ by a size, by weights, or by how they are fed."""
    found: dict[object, list[Entry[ECGEncoder]]] = {}
    for entry in CATALOGUE.ecg_encoders:
        if not any(option.default is option.empty for option in entry.options().values()):  # files that a user has to name
            function: Any = entry.build.func if isinstance(entry.build, partial) else entry.build
            found.setdefault((entry.plugin, function.__qualname__), []).append(entry)
    return [min(alike, key=lambda entry: num_parameters_of(entry, {}) or 0) for alike in found.values()]


def built(entry: Entry[ECGEncoder]) -> ECGEncoder:
    with torch.device("meta"):
        return entry.build(**entry.resolve({})).eval()


def records(encoder: ECGEncoder, batch: int) -> Tensor:
    return torch.empty(batch, len(encoder.spec.leads), encoder.spec.samples, device="meta")


def with_few_layers(entry: Entry[ECGEncoder]) -> ECGEncoder:
    """Return the encoder with one layer of each list of equal ones; as it is, where it does not run so."""
    encoder = built(entry)
    for layers in [module for module in encoder.modules() if isinstance(module, nn.ModuleList | nn.Sequential)]:
        shapes = [(type(layer), [p.shape for p in layer.parameters()]) for layer in layers]
        if len(layers) > 2 and shapes[0][1] and all(shape == shapes[0] for shape in shapes):
            del layers[1:]
    try:
        encoder(records(encoder, 2))
    except (ValueError, IndexError, RuntimeError):
        return built(entry)
    return encoder


def compiled(encoder: nn.Module) -> tuple[Callable[..., Any], list[GraphModule]]:
    """Return the encoder, compiled so that a break of its graph is an error, and the graphs that it comes to have."""
    graphs: list[GraphModule] = []

    def backend(graph: GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    return torch.compile(encoder, backend=backend, fullgraph=True), graphs


@pytest.mark.slow
@pytest.mark.parametrize("entry", kinds(), ids=lambda entry: entry.name)
def test_an_encoder_is_one_graph_for_any_number_of_records(entry: Entry[ECGEncoder]) -> None:
    encoder = with_few_layers(entry)
    run, graphs = compiled(encoder)
    if (reason := BREAKS.get(entry.plugin.rpartition(".")[2])) is not None:
        with pytest.raises(torch._dynamo.exc.Unsupported, match=reason):
            run(records(encoder, 2))
        return
    for batch in BATCHES:
        signal = records(encoder, batch)
        torch._dynamo.mark_dynamic(signal, 0)  # an encoder that is compiled for one number of records is an error
        assert {len(tensor) for tensor in run(signal).present().values()} == {batch}
    assert len(graphs) == 1


def test_the_text_encoder_is_no_single_graph_because_the_number_of_sentences_is_read_from_the_reports() -> None:
    reports = ["sinus rhythm. normal axis.", "atrial fibrillation."]
    encoder = CATALOGUE.text_encoders["bert"].build(TextSource(reports=reports)).eval()
    run, _ = compiled(encoder)
    with pytest.raises(torch._dynamo.exc.UserError, match="one_hot"):
        run(encoder.tokenize(reports))
