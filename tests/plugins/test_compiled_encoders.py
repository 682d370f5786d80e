"""Every ECG encoder of the catalogue is one graph to `torch.compile`, which serves any number of records.

Encoders are built on the meta device, where only shapes are computed: what is traced is what is compiled elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from melp_bench.components import ECGEncoder
from melp_bench.plugins import discover
from melp_bench.registry import Entry

BREAKS: dict[str, str] = {}
"""Encoders that are no single graph, with what their line of the compiler's complaint has in it."""
FEW = {"layers": 1, "depth": 1}
"""Options that repeat a layer: one layer breaks a graph as twelve do."""


def kinds() -> list[Entry[ECGEncoder]]:
    """Return one entry of each module and class: the others of it differ by a size, by weights, or by how they are fed."""
    found: dict[object, Entry[ECGEncoder]] = {}
    for entry in discover().ecg_encoders:
        function: Any = entry.build.func if isinstance(entry.build, partial) else entry.build
        found.setdefault((entry.plugin, function.__qualname__), entry)
    return list(found.values())


def built(entry: Entry[ECGEncoder]) -> ECGEncoder:
    """Return the encoder on the meta device, with as few layers as it takes."""
    given = {name: value for name, value in FEW.items() if name in entry.options()}
    with torch.device("meta"):
        return entry.build(**entry.resolve(given)).eval()


def compiled(encoder: nn.Module) -> tuple[Callable[[Tensor], Any], list[GraphModule]]:
    """Return the compiled encoder, and the graphs that it comes to have."""
    graphs: list[GraphModule] = []

    def backend(graph: GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    return torch.compile(encoder, backend=backend, fullgraph=True, dynamic=True), graphs


@pytest.mark.parametrize("entry", kinds(), ids=lambda entry: entry.name)
def test_an_encoder_is_one_graph_for_any_number_of_records(entry: Entry[ECGEncoder]) -> None:
    if any(option.default is option.empty for option in entry.options().values()):
        pytest.skip("it is built from files that an option names")
    encoder = built(entry)
    run, graphs = compiled(encoder)
    made = [run(torch.empty(batch, len(encoder.spec.leads), encoder.spec.samples, device="meta")) for batch in (2, 3, 5)]
    assert len(graphs) == 1
    for features, batch in zip(made, (2, 3, 5), strict=True):
        assert {len(tensor) for tensor in features.present().values()} == {batch}
