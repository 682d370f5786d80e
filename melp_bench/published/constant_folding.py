"""A traced module with what depends on its weights alone computed once, and kept as a buffer.

A graph that has no complex arithmetic, say, can hold a state space's kernel so: the kernel is made of weights, whatever the
record.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg


def has_complex_numbers(traced: GraphModule) -> bool:
    """Return whether a step of a module that `torch.export` traced gives complex numbers."""
    values = (node.meta.get("val") for node in traced.graph.nodes)
    return any(isinstance(value, Tensor) and value.is_complex() for value in values)


def fold(traced: GraphModule) -> GraphModule:
    """Return the module, its steps that read no input computed; it is changed in place."""
    known: dict[Node, Any] = {}
    for node in traced.graph.nodes:
        if node.op == "get_attr":
            known[node] = attrgetter(node.target)(traced)
        elif node.op == "call_function" and node.all_input_nodes and all(read in known for read in node.all_input_nodes):
            with torch.no_grad():
                known[node] = node.target(*map_arg(node.args, known.get), **map_arg(node.kwargs, known.get))
    for node, value in known.items():
        if node.op == "call_function" and isinstance(value, Tensor) and any(user not in known for user in node.users):
            name = f"folded_{node.name}"
            traced.register_buffer(name, value.detach())
            with traced.graph.inserting_before(node):
                node.replace_all_uses_with(traced.graph.get_attr(name))
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced
