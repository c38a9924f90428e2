"""Constant shapes in an exported graph.

Exporters compute the shape of every reshaped value from the sizes of the inputs, by chains of small operators. ONNX
needs none of them: in a constant shape, 0 keeps a size, and -1 stands for the one size that is left. Without the
chains, graphs are smaller and faster, and all sizes can be inferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper


def make_shapes_constant(model: Any, examples: Sequence[dict[str, np.ndarray]]) -> None:
    """Replace computed shapes by constants, and remove the operators that computed them.

    Args:
        model: an ONNX model, changed in place.
        examples: two or more sets of inputs that differ in all sizes that are free.
    """
    producer = {name: node.op_type for node in model.graph.node for name in node.output}
    nodes = [
        n for n in model.graph.node if n.op_type == "Reshape" and producer.get(n.input[1], "Constant") != "Constant"
    ]
    sizes = [_sizes(model, nodes, example) for example in examples] if nodes else []
    for node in nodes:
        inputs, shapes = (np.stack([example[name] for example in sizes]) for name in node.input)
        shape = np.array([_entry(i, inputs, column) for i, column in enumerate(shapes.T)])
        if (shape == -1).sum() <= 1:
            name = f"{node.output[0]}/shape"
            model.graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name
    remove_unused(model)


def _entry(i: int, inputs: np.ndarray, sizes: np.ndarray) -> int:
    """Entry i of a constant shape, from the sizes of the input ``(examples, dimensions)`` and of the result."""
    if (sizes == sizes[0]).all():
        return int(sizes[0])
    return 0 if i < inputs.shape[1] and (sizes == inputs[:, i]).all() else -1


def _sizes(model: Any, nodes: Sequence[Any], example: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sizes of the inputs of ``Reshape`` nodes, and the shapes that they are given, by the names of these values."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    results = {value.name for value in (*model.graph.output, *model.graph.input)}
    names = [name for name in dict.fromkeys(name for node in nodes for name in node.input) if name not in results]
    shapes = {node.input[1] for node in nodes}
    for name in names:
        operator, result = "Identity" if name in shapes else "Shape", f"{name}/probe"
        probe.graph.node.append(onnx.helper.make_node(operator, [name], [result]))
        probe.graph.output.append(onnx.helper.make_tensor_value_info(result, onnx.TensorProto.INT64, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it would run once only
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run([f"{name}/probe" for name in names], example)
    return {**{name: np.array(x.shape) for name, x in example.items()}, **dict(zip(names, values, strict=True))}


def remove_unused(model: Any) -> None:
    """Remove nodes and constants whose results nothing reads.

    Args:
        model: an ONNX model, changed in place.
    """
    read = {value.name for value in model.graph.output}
    nodes = []
    for node in reversed(model.graph.node):
        if read.intersection(node.output):
            nodes.append(node)
            read.update(node.input)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(reversed(nodes))
    model.graph.initializer.extend(constants)
