"""The operations of an exported ONNX graph: the file itself is counted, not the network that it came from.

MACs are those of convolutions and matrix products. Bytes follow the types that the file stores. What every runtime
fuses is counted fused: a convolution, product or addition between ``DequantizeLinear`` and ``QuantizeLinear`` reads
and writes the quantised values, and a ``Relu`` (or ``Clip``) on a convolution's or product's only result costs nothing
of its own. Operators without an integer form, such as a batch-norm that did not fold, are counted in floating point
with the conversions around them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from energy.counting.profile import Layer, OperationProfile, layer_kind
from leanrx_core.checks import integer
from leanrx_core.errors import UserError

_CONVOLUTIONS = {"Conv", "ConvInteger", "QLinearConv", "ConvTranspose"}
_PRODUCTS = {"MatMul", "MatMulInteger", "QLinearMatMul", "Gemm"}
_REFUSED = {
    "Einsum",
    "LSTM",
    "GRU",
    "RNN",
    "Attention",
    "MultiHeadAttention",
    "DeformConv",
    "FusedConv",
    "FusedMatMul",
    "DFT",
    "STFT",
    "If",
    "Loop",
    "Scan",
}
_WEIGHTS_INPUT = {"QLinearConv": 3, "QLinearMatMul": 3}
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}
_MOVING_NOTHING = {"Constant", "Shape", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
_ACTIVATIONS = {"Relu", "Clip"}
_WITH_INTEGERS = _CONVOLUTIONS | _PRODUCTS | {"Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"}


def num_features(path: str | Path) -> int:
    """Channels of the first input of a receiver's ONNX file; 0 where the file leaves them free.

    Raises:
        UserError: if the file cannot be read.
    """
    return int(_load(str(path)).graph.input[0].type.tensor_type.shape.dim[1].dim_value)


def count_onnx(path: str | Path, shape: Sequence[int] | None = None) -> OperationProfile:
    """Count one run of an ONNX graph.

    Args:
        path: the file.
        shape: of its first input, slots first; needed where the file leaves sizes free.

    Raises:
        UserError: if the file cannot be read, a size stays unknown, or an operator computes MACs that are not counted.
    """
    model = _read(str(path), shape)
    graph = _Graph(model, str(path))
    functions = {f.name for f in model.functions}
    layers, uncounted, macs_at = [], [], dict.fromkeys(_PRECISIONS.values(), 0)
    for node in model.graph.node:
        if node.op_type in _REFUSED or node.op_type in functions:
            raise UserError(f"{path}: operator {node.op_type} is not counted; count the model before export")
        if node.op_type in _MOVING_NOTHING or graph.fused(node):
            continue
        macs = 0
        if node.op_type in _CONVOLUTIONS | _PRODUCTS:
            macs = graph.macs(node)
            macs_at[graph.precision(node)] += macs
        layer = graph.layer(node, macs)
        layers.append(layer)
        if not graph.is_known(node):
            uncounted.append(layer.name)
    constants = {t.name for t in model.graph.initializer}
    first = next(i for i in model.graph.input if i.name not in constants)
    precision = max(macs_at, key=lambda p: macs_at[p])
    batch_slots = graph.sizes[first.name][0]
    return OperationProfile(Path(path).name, precision, batch_slots, tuple(layers), uncounted=tuple(uncounted))


def _load(path: str) -> Any:
    import onnx

    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; give the path of an ONNX file")
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:
        raise _unreadable(path, error) from None


def _read(path: str, shape: Sequence[int] | None) -> Any:
    import onnx

    model = _load(path)
    try:
        _bind(model, path, shape)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> UserError:
    return UserError(f"{path}: not an ONNX graph with known shapes ({type(error).__name__}); export it again")


class _Graph:
    """Sizes and types of a graph's values, and the nodes that produce and consume them.

    Attributes:
        sizes: by value, where known.
    """

    def __init__(self, model: Any, path: str) -> None:
        graph = model.graph
        self._path = path
        self.sizes: dict[str, list[int]] = {t.name: list(t.dims) for t in graph.initializer}
        self._types: dict[str, int] = {t.name: t.data_type for t in graph.initializer}
        self._constants = set(self.sizes)
        for value in [*graph.input, *graph.value_info, *graph.output]:
            kind = value.type.tensor_type
            self._types[value.name] = kind.elem_type
            if all(d.HasField("dim_value") for d in kind.shape.dim):
                self.sizes[value.name] = [d.dim_value for d in kind.shape.dim]
        self._producer = {name: node for node in graph.node for name in node.output}
        self._consumers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)
        self._constants |= {n for n, node in self._producer.items() if node.op_type == "Constant"}
        self._results = {value.name for value in graph.output}

    def fused(self, node: Any) -> bool:
        """Whether a runtime does this inside its neighbours, or once and for all when it loads the file."""
        if node.op_type == "DequantizeLinear":
            consumers = self._consumers.get(node.output[0], [])
            in_integers = bool(consumers) and all(c.op_type in _WITH_INTEGERS for c in consumers)
            return node.input[0] in self._constants or in_integers
        previous = self._producer.get(node.input[0])
        while previous is not None and previous.op_type in {*_ACTIVATIONS, "QuantizeLinear"}:
            if node.output[0] in self._fused_chain(previous):
                return True
            previous = self._producer.get(previous.input[0])
        return previous is not None and node.output[0] in self._fused_chain(previous)

    def _fused_chain(self, node: Any) -> list[str]:
        """Results that follow a node's own in the same fused operator: of its activation, of its quantisation."""
        chain: list[str] = []
        value = node.output[0]
        multiplies = node.op_type in _CONVOLUTIONS | _PRODUCTS
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

    def _end(self, node: Any) -> str:
        return (self._fused_chain(node) or [node.output[0]])[-1]

    def _source(self, name: str) -> str:
        """The stored value that an input is read from, before it is dequantised."""
        producer = self._producer.get(name)
        return (
            producer.input[0]
            if producer is not None and producer.op_type == "DequantizeLinear" and self.fused(producer)
            else name
        )

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
        names = [*self._read(node), self._end(node)]
        return all(n in self._constants or (n in self.sizes and self._types.get(n)) for n in names)

    def layer(self, node: Any, macs: int) -> Layer:
        read = self._read(node)
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        constants = [n for n in read if n in self._constants]
        return Layer(
            name=node.name or node.output[0],
            operator=node.op_type,
            kind=layer_kind(macs, groups),
            phase="forward",
            parameters=sum(math.prod(self.sizes.get(n, [0])) for n in constants),
            macs=macs,
            weight_bytes=sum(map(self._bytes, constants)),
            read_bytes=sum(self._bytes(n) for n in read if n not in self._constants),
            written_bytes=self._bytes(self._end(node)),
        )

    def precision(self, node: Any) -> str:
        """In which a convolution or product computes: the type of its stored weights."""
        from onnx import helper

        name = self._source(node.input[_WEIGHTS_INPUT.get(node.op_type, 1)])
        kind = helper.tensor_dtype_to_np_dtype(self._types[name]).name if self._types.get(name) else "float32"
        if kind not in _PRECISIONS:
            raise UserError(
                f"{self._path}: {kind} weights at {node.op_type} are not counted; export in float32 or int8"
            )
        return _PRECISIONS[kind]

    def macs(self, node: Any) -> int:
        out = math.prod(self._size(node.output[0], node))
        weights = self._size(node.input[_WEIGHTS_INPUT.get(node.op_type, 1)], node)
        if node.op_type == "ConvTranspose":  # every input element meets the kernel of each output channel of its group
            return math.prod(self._size(node.input[0], node)) * math.prod(weights[1:])
        if node.op_type in _CONVOLUTIONS:  # weights (out, in / groups, *kernel)
            return out * math.prod(weights[1:])
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        inner = weights[-1] if transposed else weights[-2] if len(weights) > 1 else weights[0]
        return out * inner

    def _size(self, name: str, node: Any) -> list[int]:
        name = name if name in self.sizes else self._source(name)
        if name not in self.sizes:
            raise UserError(
                f"{self._path}: size of '{name}' at {node.op_type} is not known; give model.shape or simplify it"
            )
        return self.sizes[name]


def _bind(model: Any, path: str, shape: Sequence[int] | None) -> None:
    """Give the first input its sizes, and free dimensions of the same name everywhere else."""
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    if not inputs:
        raise UserError(f"{path}: a graph without inputs; nothing to count")
    dims = inputs[0].type.tensor_type.shape.dim
    if shape is None:
        if not all(d.HasField("dim_value") for d in dims):
            named = ", ".join(d.dim_param if d.HasField("dim_param") else str(d.dim_value) for d in dims)
            raise UserError(f"{path}: its input leaves sizes free ({named}); give model.shape")
        return
    if len(shape) != len(dims):
        raise UserError(f"model.shape: {len(shape)} sizes, but the input of {path} has {len(dims)}")
    names = {}
    for dim, size in zip(dims, shape, strict=True):
        integer("model.shape", size, 1)
        if dim.HasField("dim_value") and dim.dim_value != size:
            raise UserError(f"model.shape: {list(shape)} does not fit {path}, which fixes one size to {dim.dim_value}")
        if dim.HasField("dim_param"):
            names[dim.dim_param] = size
        dim.dim_value = size
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param") and dim.dim_param in names:
                dim.dim_value = names[dim.dim_param]
            elif dim.HasField("dim_param"):
                dim.ClearField("dim_param")  # an expression of free sizes: inference finds it
    del model.graph.value_info[:]  # they were inferred with free sizes
