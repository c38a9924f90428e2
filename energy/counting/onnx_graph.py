"""Values and nodes of an ONNX graph: sizes and types, what a runtime fuses, and in which precision a node computes."""

from __future__ import annotations

import math
from typing import Any

from energy.counting.onnx_operators import CONVOLUTIONS, INTEGER_OPERATORS, MAC_FORMULAS
from energy.counting.onnx_standard_forms import attribute, qualified_name, quantisation_inputs
from energy.counting.profile import Layer, layer_kind
from leanrx_core.errors import UserError

_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}
_MOVING_NOTHING = {"Constant", "Shape", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
_ACTIVATIONS = {"Relu", "Clip"}
_WITH_INTEGERS = {"Conv", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "MatMul", "Gemm"}
"""Operators that runtimes do in integers between ``DequantizeLinear`` and ``QuantizeLinear``."""
_FLOAT_RESULTS = {"MatMul", "Gemm"}
"""Those of them that runtimes do in integers without ``QuantizeLinear`` too."""


class OnnxGraph:
    """A graph with inferred sizes.

    Args:
        model: with its sizes and types.
        path: of the file, for messages.
        is_receiver: an exported receiver, whose constants are trained values at convolutions, products with a bias and
            batch-norms only.

    Attributes:
        sizes: by value, where known.
    """

    def __init__(self, model: Any, path: str, is_receiver: bool = False) -> None:
        graph = model.graph
        self._is_receiver = is_receiver
        self._path = path
        self.sizes: dict[str, list[int]] = {t.name: list(t.dims) for t in graph.initializer}
        self._types: dict[str, int] = {t.name: t.data_type for t in graph.initializer}
        self._constants = set(self.sizes)
        for value in [*graph.input, *graph.value_info, *graph.output]:
            kind = value.type.tensor_type
            self._types[value.name] = kind.elem_type
            if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
                self.sizes[value.name] = [d.dim_value for d in kind.shape.dim]
        self._producer = {name: node for node in graph.node for name in node.output}
        self._consumers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)
        self._constants |= {n for n, node in self._producer.items() if node.op_type == "Constant"}
        self._results = {value.name for value in graph.output}
        self._trainable = {n for n in self._constants if self._is_trainable(n)}

    def _is_trainable(self, name: str) -> bool:
        """Whether a constant can be a trained value: indices and sizes are not."""
        from onnx import TensorProto

        return self._types.get(name, TensorProto.FLOAT) not in (TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING)

    def fused(self, node: Any) -> bool:
        """Whether a runtime does this inside its neighbours, once and for all when it loads the file, or not at all."""
        if node.op_type in _MOVING_NOTHING:
            return True
        if node.op_type == "DequantizeLinear":
            consumers = self._consumers.get(node.output[0], [])
            return bool(consumers) and all(map(self._in_integers, consumers))
        previous = self._producer.get(node.input[0]) if node.input else None
        while previous is not None and previous.op_type in {*_ACTIVATIONS, "QuantizeLinear"}:
            if node.output[0] in self._fused_chain(previous):
                return True
            previous = self._producer.get(previous.input[0])
        return previous is not None and node.output[0] in self._fused_chain(previous)

    def _in_integers(self, node: Any) -> bool:
        """Whether a runtime does this node in integers.

        All its operands are dequantised, and its result is quantised. With weights alone in 8 bits, runtimes dequantise
        them and compute in floating point.
        """
        if qualified_name(node) in INTEGER_OPERATORS:
            return True
        if node.op_type not in _WITH_INTEGERS:
            return False
        dequantised = [
            producer is not None and producer.op_type == "DequantizeLinear"
            for producer in (self._producer.get(name) for name in node.input[:2] if name)
        ]
        chain = self._chain(node)
        quantised = bool(chain) and self._producer[chain[-1]].op_type == "QuantizeLinear"
        return all(dequantised) and (quantised or node.op_type in _FLOAT_RESULTS)

    def _chain(self, node: Any) -> list[str]:
        """Results that follow a node's own up to its quantisation: of its activation, and of ``QuantizeLinear``."""
        chain: list[str] = []
        value = node.output[0]
        multiplies = qualified_name(node) in MAC_FORMULAS
        while True:
            consumers = self._consumers.get(value, [])
            if value in self._results or len(consumers) != 1:
                return chain
            quantised = consumers[0].op_type == "QuantizeLinear" and node.op_type in _WITH_INTEGERS
            if not quantised and not (multiplies and consumers[0].op_type in _ACTIVATIONS):
                return chain
            value = consumers[0].output[0]
            chain.append(value)
            if consumers[0].op_type == "QuantizeLinear":
                return chain

    def _fused_chain(self, node: Any) -> list[str]:
        """The part of the chain that runs inside the node: a quantisation only if the node computes in integers."""
        chain = self._chain(node)
        if chain and self._producer[chain[-1]].op_type == "QuantizeLinear" and not self._in_integers(node):
            return chain[:-1]
        return chain

    def _written(self, node: Any) -> list[str]:
        """Values that a node writes: the last of those that it fuses, or all its results."""
        return self._fused_chain(node)[-1:] or [name for name in node.output if name]

    def _source(self, name: str) -> str:
        """The stored value that an input is read from, before it is dequantised."""
        producer = self._producer.get(name)
        is_fused = producer is not None and producer.op_type == "DequantizeLinear" and self.fused(producer)
        return producer.input[0] if is_fused and producer is not None else name

    def _read(self, node: Any) -> list[str]:
        """Values that a node reads; scales and zero points come with their value."""
        inputs = node.input[:1] if node.op_type in ("QuantizeLinear", "DequantizeLinear") else node.input
        return [self._source(name) for name in inputs if name]

    def _bytes(self, name: str) -> int:
        from onnx import helper

        if name not in self.sizes or not self._types.get(name):
            return 0
        return int(math.prod(self.sizes[name]) * helper.tensor_dtype_to_np_dtype(self._types[name]).itemsize)

    def is_known(self, node: Any) -> bool:
        """Whether the sizes and types of all that a node reads and writes are known."""
        names = [*self._read(node), *self._written(node)]
        return all(n in self._constants or (n in self.sizes and self._types.get(n)) for n in names)

    def layer(self, node: Any, macs: int) -> Layer:
        """The layer of a node; its parameters count once, in the first layer that reads them."""
        read = self._read(node)
        constants = [n for n in read if n in self._constants]
        operator = qualified_name(node)
        has_parameters = not self._is_receiver or operator in {*CONVOLUTIONS, "Gemm", "BatchNormalization"}
        trainable = (set(constants) - quantisation_inputs(node)) & self._trainable if has_parameters else set()
        self._trainable -= trainable
        return Layer(
            name=self._name(node),
            operator=operator,
            kind=layer_kind(macs, attribute(node, "group", 1) if operator in CONVOLUTIONS else 1),
            phase="forward",
            parameters=sum(self._values(n, node) for n in trainable),
            macs=macs,
            weight_bytes=sum(map(self._bytes, constants)),
            read_bytes=sum(self._bytes(n) for n in read if n not in self._constants),
            written_bytes=sum(map(self._bytes, self._written(node))),
        )

    def _values(self, name: str, node: Any) -> int:
        """Trained values of a constant; several of them share a byte in ``MatMulNBits``."""
        if node.op_type == "MatMulNBits" and name == node.input[1]:
            return int(attribute(node, "K") * attribute(node, "N"))
        return math.prod(self.sizes.get(name, [0]))

    def precision(self, node: Any) -> str:
        """In which a convolution or product computes: integers, or the type of its first operand."""
        from onnx import helper

        if self._in_integers(node):
            return "int8"
        name = node.input[0]
        kind = helper.tensor_dtype_to_np_dtype(self._types[name]).name if self._types.get(name) else "float32"
        if kind not in _PRECISIONS:
            raise UserError(f"{self._path}: {kind} values at {node.op_type} are not counted; export in float32 or int8")
        return _PRECISIONS[kind]

    def macs(self, node: Any) -> int:
        """MACs of a node.

        Raises:
            UserError: if a size is not known, an input is missing, or an ``einsum`` has several contractions.
        """
        formula = MAC_FORMULAS.get(qualified_name(node))
        if formula is None:
            return 0
        try:
            return formula(node, lambda name: self._size(name, node))
        except ValueError as error:
            raise UserError(
                f"{self._path}: {node.op_type} with {error} is not counted; export them one by one"
            ) from None
        except (AttributeError, IndexError):
            raise UserError(
                f"{self._path}: {node.op_type} at '{self._name(node)}' lacks an input or an attribute; export it again"
            ) from None

    def elements(self, node: Any) -> int:
        """Elements of a node's result; 0 if its size is not known."""
        return math.prod(self.sizes.get(node.output[0], [0]))

    @staticmethod
    def _name(node: Any) -> str:
        return node.name or next((name for name in node.output if name), "")

    def _size(self, name: str, node: Any) -> list[int]:
        name = name if name in self.sizes else self._source(name)
        if name not in self.sizes:
            raise UserError(
                f"{self._path}: size of '{name}' at {node.op_type} is not known; give model.shape or simplify it"
            )
        return self.sizes[name]
