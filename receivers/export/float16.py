"""Exported receivers whose network is in half precision, with their bit errors.

Weights and activations of the network are float16, so its weights take half of the bytes. A CPU without arithmetic in
float16 rounds to it and computes in float32, which takes longer. A front end stays in float32: powers of 1e-5 and
below, and differences of nearly equal numbers, do not fit the 11 bits of float16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from channels import Stream
from receivers.evaluation.stopping import Evaluation
from receivers.export.reduced_precision import PrecisionComparison, PrecisionForm, export_reduced, network_nodes

ARITHMETIC_KEY = "arithmetic"
"""Key of a file's metadata."""

_HALF, _SINGLE = "/fp16", "/fp32"
"""Ends of the names of converted values."""


def write_float16(path: Path, target: Path) -> None:
    """Write the float16 form of an exported file.

    Args:
        path: the float32 file.
        target: the float16 file.
    """
    import onnx

    model = onnx.load(path)
    graph, network = model.graph, set(network_nodes(model.graph.node))
    results = {name for node in graph.node if node.name in network for name in node.output}
    weights = {name for node in graph.node if node.name in network for name in node.input}
    for tensor in graph.initializer:
        if tensor.name in weights:
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    nodes = _with_casts(graph, network, results)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    model.metadata_props.add(key=ARITHMETIC_KEY, value="fp16")
    onnx.save(model, target)


def _with_casts(graph: Any, network: set[str], results: set[str]) -> list[Any]:
    """Nodes of a graph, with a cast wherever a value enters or leaves its network."""
    import onnx

    nodes: list[Any] = []
    casts: set[str] = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}

    def cast(name: str, ending: str, kind: int) -> str:
        if name + ending not in casts:
            nodes.append(onnx.helper.make_node("Cast", [name], [name + ending], name=name + ending, to=kind))
            casts.add(name + ending)
        return name + ending

    initializers = set(casts)
    for node in graph.node:
        for i, name in enumerate(node.input):
            if node.name in network and name and name not in results | initializers:
                node.input[i] = cast(name, _HALF, onnx.TensorProto.FLOAT16)
            elif node.name not in network and name in results:
                node.input[i] = cast(name, _SINGLE, onnx.TensorProto.FLOAT)
        nodes.append(node)
    assert not outputs & results, "a network's result passes the demapper before it leaves the graph"
    return nodes


def export_float16(path: Path, stream: Stream, evaluation: Evaluation, target_ber: float) -> PrecisionComparison:
    """Write ``<name>-fp16.onnx`` next to ``<name>.onnx``, and ``<name>-fp16.json`` with the errors of both.

    Args:
        path: the float32 file.
        stream, evaluation: slots and points of the test.
        target_ber: BER at which the SINR loss is determined.

    Raises:
        UserError: if a file cannot be loaded.
    """
    description = "onnx, network in float16: weights and activations; all else in float32"
    return export_reduced(path, PrecisionForm("fp16", description, write_float16, {}), stream, evaluation, target_ber)
