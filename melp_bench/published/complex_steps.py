"""A traced module whose complex arithmetic a graph can hold: what depends on weights alone is computed, spectra are doubles.

Graphs have the Fourier transform of a signal and the product of spectra, and little else of that kind. A state space's kernel
is made of weights, whatever the record, so that a graph can hold it all the same. In single precision onnxruntime's transform
of 2,400 samples is off by more than a ten-thousandth.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

ATEN = torch.ops.aten


def has_complex_numbers(traced: GraphModule) -> bool:
    """Return whether a step of a module that `torch.export` traced gives complex numbers."""
    values = (node.meta.get("val") for node in traced.graph.nodes)
    return any(isinstance(value, Tensor) and value.is_complex() for value in values)


def for_graphs(traced: GraphModule) -> GraphModule:
    """Return the module without steps that read no input, and with the Fourier transforms that are left in double precision.

    It is changed in place.
    """
    _fold(traced)
    for node in list(traced.graph.nodes):
        if node.target is ATEN.fft_rfft.default:
            with traced.graph.inserting_before(node):
                node.update_arg(0, traced.graph.call_function(ATEN.to.dtype, (node.args[0], torch.float64)))
        elif node.target is ATEN.fft_irfft.default:
            with traced.graph.inserting_after(node):
                single = traced.graph.call_function(ATEN.to.dtype, (node, torch.float32))
            node.replace_all_uses_with(single)
            single.update_arg(0, node)
    traced.recompile()
    return traced


def _fold(traced: GraphModule) -> None:
    """Compute what reads no input; what others read of it becomes a buffer, a complex one in double precision."""
    known: dict[Node, Any] = {}
    for node in traced.graph.nodes:
        if node.op == "get_attr":
            known[node] = attrgetter(str(node.target))(traced)
        elif node.op == "call_function" and node.all_input_nodes and all(read in known for read in node.all_input_nodes):
            with torch.no_grad():
                known[node] = node.target(*map_arg(node.args, known.get), **map_arg(node.kwargs, known.get))
    for node, value in known.items():
        if node.op == "call_function" and isinstance(value, Tensor) and any(user not in known for user in node.users):
            name = f"folded_{node.name}"
            traced.register_buffer(name, value.detach().to(torch.complex128 if value.is_complex() else value.dtype))
            with traced.graph.inserting_before(node):
                node.replace_all_uses_with(traced.graph.get_attr(name))
    traced.graph.eliminate_dead_code()
