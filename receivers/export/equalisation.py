"""Equal ranges of the channels of a graph, so that one scale of 8 bits suits all channels of a value.

An int8 convolution has one scale for all channels of its input, and one for those of its result. Channels of a small
range then lose most of their bits. This pass divides each channel by a factor, and multiplies the weights that read it
(cross-layer equalisation, 1906.04721). The factor of an input shares the bits between values and weights: it is the
root of their ranges' ratio (SmoothQuant, 2211.10438). The factors go into the layer before, or into one multiplication
in float32. The graph computes the same results in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from receivers.export.constant_shapes import remove_unused
from receivers.export.value_ranges import MIN_RANGE, Array, channel_ranges, graph_values

WEIGHT_LIMIT = 127
"""Largest magnitude of a weight of 8 bits."""


def equalise(model: onnx.ModelProto, nodes: Sequence[str], examples: Sequence[dict[str, Array]]) -> None:
    """Give all channels of the values that 8 bits will hold equal ranges: inputs and results of integer convolutions.

    Args:
        model: in float32, changed in place.
        nodes: names of those that will compute in integers.
        examples: inputs of calibration slots.
    """
    graph = _Graph(model, nodes)
    convolutions = graph.integer_convolutions()
    inputs = list(dict.fromkeys([*(node.input[0] for node in convolutions), *graph.integer_inputs_of_floats()]))
    results = [node.output[0] for node in convolutions if not graph.feeds_convolutions(node.output[0])]
    ranges = channel_ranges(model, [*inputs, *results], examples)
    for name in inputs:
        graph.divide(name, ranges[name])
    for name in results:
        graph.restore(name, ranges[name])
    remove_unused(model)


def round_weights(model: onnx.ModelProto, nodes: Sequence[str], examples: Sequence[dict[str, Array]]) -> None:
    """Round the weights of integer convolutions to 8 bits, and correct each bias by the mean of what that changes.

    Rounding errors of weights multiply values whose mean is not 0, so they shift the results. The shift is most of
    their harm (bias correction, 1906.04721).

    Args:
        model, nodes, examples: as of :func:`equalise`.
    """
    graph = _Graph(model, nodes)
    convolutions = graph.integer_convolutions()
    means: dict[str, Array] = {}
    for values in graph_values(model, list(dict.fromkeys(node.input[0] for node in convolutions)), examples):
        for name, x in values.items():
            means[name] = means.get(name, 0) + x / len(examples)
    for node in convolutions:
        weight = graph.parameter(node, 1)
        scale = np.maximum(np.abs(weight).max((1, 2, 3), keepdims=True), 1e-12) / WEIGHT_LIMIT
        rounded = (np.round(weight / scale) * scale).astype(np.float32)
        attributes: dict[str, Any] = {a.name: list(a.ints) or a.i for a in node.attribute}
        change = torch.nn.functional.conv2d(
            torch.from_numpy(means[node.input[0]]),
            torch.from_numpy(weight - rounded),
            padding=attributes["pads"][:2],
            dilation=attributes["dilations"],
            groups=attributes["group"],
        )
        bias = graph.parameter(node, 2) if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        graph.replace(node, 1, rounded)
        graph.replace(node, 2, bias + change.mean((0, 2, 3)).numpy())
    remove_unused(model)


class _Graph:
    """The nodes of a model by the values that they read and write. Its weights change in place."""

    def __init__(self, model: onnx.ModelProto, nodes: Sequence[str]) -> None:
        self.graph, self.integer_nodes = model.graph, set(nodes)
        self.arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.producers = {name: node for node in model.graph.node for name in node.output}

    def integer_convolutions(self) -> list[Any]:
        """Convolutions that will compute in integers."""
        return [node for node in self.graph.node if node.op_type == "Conv" and node.name in self.integer_nodes]

    def integer_inputs_of_floats(self) -> list[str]:
        """Values of integer nodes that convolutions in float32 read."""
        floats = [node for node in self.graph.node if node.op_type == "Conv" and node.name not in self.integer_nodes]
        names = [node.input[0] for node in floats]
        return [n for n in names if n in self.producers and self.producers[n].name in self.integer_nodes]

    def readers(self, name: str) -> list[Any]:
        """Nodes that read a value."""
        return [node for node in self.graph.node if name in node.input]

    def feeds_convolutions(self, name: str) -> bool:
        """Whether convolutions alone read a value, perhaps after an activation or a concatenation."""
        readers = self.readers(name)
        return bool(readers) and all(
            node.op_type == "Conv" or (node.op_type in ("Relu", "Concat") and self.feeds_convolutions(node.output[0]))
            for node in readers
        )

    def divide(self, name: str, ranges: Array) -> None:
        """Divide the channels of a value, and multiply the weights of the convolutions that read it.

        A depthwise convolution has a scale for each channel's weights, and one in float32 needs none. So the values
        alone decide the factors there.
        """
        convolutions = [node for node in self.readers(name) if node.op_type == "Conv"]
        integers = [node for node in convolutions if node.name in self.integer_nodes]
        shared = [self.parameter(node, 1) for node in integers if _group(node) == 1]
        if shared:
            weights = np.max([np.abs(weight).max((0, 2, 3)) for weight in shared], 0)
            ranges = np.sqrt(ranges / np.maximum(weights, MIN_RANGE * weights.max()))
        if len(convolutions) == len(self.readers(name)) and self._can_scale(name):
            self._scale(name, 1 / ranges)
        else:
            divided = f"{name}/divided"
            place = min(list(self.graph.node).index(node) for node in convolutions)
            self._insert(place, name, 1 / ranges, divided)
            for node in convolutions:
                node.input[0] = divided
        for node in convolutions:
            weight, group = self.parameter(node, 1), _group(node)
            factors = np.repeat(ranges, len(weight) // group) if group > 1 else ranges
            shape = (-1, 1, 1, 1) if group > 1 else (1, -1, 1, 1)
            self.replace(node, 1, weight * factors.reshape(shape))

    def restore(self, name: str, ranges: Array) -> None:
        """Divide the channels of a result by the last weights, and multiply them afterwards."""
        node = self.producers[name]
        node.output[0] = f"{name}/scaled"
        self.producers[node.output[0]] = node
        self._scale(node.output[0], 1 / ranges)
        self._insert(list(self.graph.node).index(node) + 1, node.output[0], ranges, name)

    def _can_scale(self, name: str) -> bool:
        """Whether factors of the channels of a value can go into weights before it."""
        node = self.producers.get(name)
        if node is None:
            return False
        if node.op_type in ("Conv", "BatchNormalization"):
            return True
        if node.op_type == "Relu" or (node.op_type == "Concat" and _axis(node) == 1):
            return all(len(self.readers(x)) == 1 and self._can_scale(x) for x in node.input)
        return False

    def _scale(self, name: str, factors: Array) -> None:
        node = self.producers[name]
        if node.op_type == "Conv":
            weight = self.parameter(node, 1)
            self.replace(node, 1, weight * factors.reshape(-1, 1, 1, 1))
            if len(node.input) > 2:
                self.replace(node, 2, self.parameter(node, 2) * factors)
        elif node.op_type == "BatchNormalization":
            for i in (1, 2):
                self.replace(node, i, self.parameter(node, i) * factors)
        elif node.op_type == "Relu":
            self._scale(node.input[0], factors)
        else:
            ends = np.cumsum([self._channels(x) for x in node.input])[:-1]
            for x, part in zip(node.input, np.split(factors, ends), strict=True):
                self._scale(x, part)

    def _channels(self, name: str) -> int:
        node = self.producers[name]
        if node.op_type == "Relu":
            return self._channels(node.input[0])
        if node.op_type == "Concat":
            return sum(map(self._channels, node.input))
        return len(self.parameter(node, 1))

    def parameter(self, node: Any, i: int) -> Array:
        """A parameter of a node. Equal parameters can be one value, which exporters copy by an operator."""
        name = node.input[i]
        while name not in self.arrays:
            name = self.producers[name].input[0]
        return self.arrays[name]

    def replace(self, node: Any, i: int, values: Array) -> None:
        """Give a node another parameter. Nodes that share the present one keep it."""
        name = f"{node.output[0]}/parameter-{i}"
        tensor = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)
        if name in self.arrays:
            next(x for x in self.graph.initializer if x.name == name).CopyFrom(tensor)
        else:
            self.graph.initializer.append(tensor)
        self.arrays[name] = numpy_helper.to_array(tensor)
        if i < len(node.input):
            node.input[i] = name
        else:
            node.input.append(name)

    def _insert(self, place: int, name: str, factors: Array, result: str) -> None:
        """Insert a multiplication of channels."""
        constant = f"{result}/factors"
        self.graph.initializer.append(
            numpy_helper.from_array(factors.reshape(1, -1, 1, 1).astype(np.float32), constant)
        )
        node = onnx.helper.make_node("Mul", [name, constant], [result], name=f"{result}/Mul")
        self.graph.node.insert(place, node)
        self.producers[result] = self.graph.node[place]


def _group(node: Any) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def _axis(node: Any) -> int:
    return next(a.i for a in node.attribute if a.name == "axis")
