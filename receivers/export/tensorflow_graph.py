"""An exported ONNX graph as a TensorFlow module, for the conversion to LiteRT.

Each node becomes the TensorFlow operators of the same definition, with the same weights. So a receiver has one graph in
all formats. Two things differ:

* LiteRT's convolutions have the channels last. Their results stay so until an operator needs the channels first.
* The batch is one slot. Then at most one size of each shape is free, the number of resource blocks. So shapes are
  constants, and LiteRT computes all sizes before it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
import tensorflow as tf
from onnx import numpy_helper

from leanrx_core.errors import UserError

Tensor = Any
"""A TensorFlow tensor, or an array where it is a constant."""


@dataclass(frozen=True)
class _ChannelsLast:
    """Planes ``(1, S, F, C)`` of a value that has the shape ``(1, C, S, F)`` in ONNX."""

    planes: Tensor


@dataclass(frozen=True)
class _Quantised:
    """A value before it is rounded to 8 bits without a sign, or weights that are rounded, with a scale per channel."""

    value: Any
    scale: np.ndarray
    zero: np.ndarray


class _Call(NamedTuple):
    """A node with the values of its inputs; an input that is left out is None."""

    inputs: list[Any]
    attributes: dict[str, Any]


class TensorflowGraph(tf.Module):
    """An ONNX graph of a receiver, for one slot.

    Args:
        model: as :func:`receivers.export.onnx.export_onnx` writes it.
        num_subcarriers: of all slots; free if not given.

    Attributes:
        receive: from the inputs of the graph to LLRs, a ``tf.function``.

    Raises:
        UserError: if a node has no form in LiteRT.
    """

    def __init__(self, model: onnx.ModelProto, num_subcarriers: int | None = None) -> None:
        super().__init__(name="receiver")
        self._nodes = list(model.graph.node)
        self._constants = {tensor.name: _constant(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
        for node in self._nodes:
            if node.op_type not in _KNOWN:
                raise UserError(
                    f"export: {node.name} is a {node.op_type}, which has no form in LiteRT; use --format onnx"
                )
        signature = [_specification(value, num_subcarriers) for value in model.graph.input]
        names, (output,) = [x.name for x in signature], model.graph.output
        self.receive = tf.function(
            lambda *tensors: {output.name: self._values(dict(zip(names, tensors, strict=True)))[output.name]},
            input_signature=signature,
            autograph=False,
        )

    def _values(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """All values of the graph by name, channels first."""
        values: dict[str, Any] = dict(self._constants)
        values |= {name: tf.cast(x, tf.int32) if x.dtype == tf.int64 else x for name, x in inputs.items()}
        for node in self._nodes:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                (value,) = attributes.values()
                array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
                results: Any = _constant(array)
            else:
                results = _result(node, [values[name] if name else None for name in node.input], attributes)
            if not isinstance(results, tuple):
                results = (results,)
            values |= dict(zip(node.output, results, strict=True))
        return {name: _channels_first(value) for name, value in values.items()}


def _result(node: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> Any:
    """Results of a node. An operator of planes takes channels last, if a value has them already."""
    try:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return (_quantise if node.op_type == "QuantizeLinear" else _dequantise)(*inputs)
        if node.op_type in _PLANE_OPERATORS and (
            node.op_type in _ALWAYS_PLANES or any(isinstance(x, _ChannelsLast) for x in inputs)
        ):
            results = _PLANE_OPERATORS[node.op_type](_Call(inputs, attributes))
            return tuple(map(_ChannelsLast, results)) if isinstance(results, tuple) else _ChannelsLast(results)
        if node.op_type not in _OPERATORS:
            raise NotImplementedError
        return _OPERATORS[node.op_type](_Call([_channels_first(x) for x in inputs], attributes))
    except NotImplementedError:
        raise UserError(f"export: {node.name}, a {node.op_type}, has no form in LiteRT; use --format onnx") from None


def _quantise(x: Any, scale: np.ndarray, zero: np.ndarray) -> _Quantised:
    if zero.dtype != np.uint8 or zero.size != 1:
        raise NotImplementedError
    return _Quantised(x, scale, zero)


def _dequantise(x: Any, scale: np.ndarray, zero: np.ndarray | None = None) -> Any:
    """A value that was rounded to 8 bits, in TensorFlow's operator for this; weights; or a bias."""
    if isinstance(x, _Quantised):
        limits = [float(scale) * (end - int(x.zero)) for end in (0, 255)]
        if isinstance(x.value, _ChannelsLast):
            return _ChannelsLast(tf.quantization.fake_quant_with_min_max_args(x.value.planes, *limits))
        return tf.quantization.fake_quant_with_min_max_args(x.value, *limits)
    offset = 0 if zero is None else int(zero.flat[0])
    if zero is not None and (zero != offset).any():
        raise NotImplementedError
    values = ((x.T.astype(np.float32) - offset) * scale).T
    return _Quantised(values, np.atleast_1d(scale), np.zeros(1)) if x.dtype == np.uint8 else values


def _rounded(kernel: np.ndarray, weight: Any) -> Tensor:
    """A kernel whose last axis is that of the scales."""
    if not isinstance(weight, _Quantised):
        return kernel
    limit = np.broadcast_to(127 * weight.scale, kernel.shape[-1:]).astype(np.float32)
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(kernel, -limit, limit, narrow_range=True)


def _specification(value: onnx.ValueInfoProto, num_subcarriers: int | None) -> tf.TensorSpec:
    """The input of a graph, with a batch of 1."""
    tensor, sizes = value.type.tensor_type, {"subcarriers": num_subcarriers}
    shape = [sizes.get(d.dim_param, 1) if d.dim_param else d.dim_value for d in tensor.shape.dim]
    return tf.TensorSpec(shape, tf.as_dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), value.name)


def _constant(array: np.ndarray) -> np.ndarray:
    """A constant, whose integers have 32 bits. ONNX writes 'to the end' as a larger one."""
    if array.dtype == np.int64:
        return np.clip(array, -(2**31), 2**31 - 1).astype(np.int32)
    return array


def _channels_first(value: Any) -> Any:
    return tf.transpose(value.planes, [0, 3, 1, 2]) if isinstance(value, _ChannelsLast) else value


def _channels_last(value: Any) -> Tensor:
    return value.planes if isinstance(value, _ChannelsLast) else tf.transpose(value, [0, 2, 3, 1])


def _integers(array: np.ndarray | None) -> list[int]:
    return [int(x) for x in np.atleast_1d(array)] if array is not None else []


def _reshape(call: _Call) -> Tensor:
    """Reshape; 0 keeps a size. Of the sizes that are not constant, one is left to TensorFlow."""
    x, entries = call.inputs[0], _integers(call.inputs[1])
    sizes = list(x.shape)
    shape = [sizes[i] if entry == 0 else entry for i, entry in enumerate(entries)]
    copied = {i for i, entry in enumerate(entries) if entry == 0}
    rest = [size for i, size in enumerate(sizes) if i not in copied]
    if -1 in shape and None not in rest:
        shape[shape.index(-1)] = math.prod(rest) // math.prod(entry for entry in entries if entry > 0)
    shape = [-1 if size is None else size for size in shape]
    if shape.count(-1) > 1:
        raise NotImplementedError
    return tf.reshape(x, shape)


def _unsqueeze(call: _Call) -> Tensor:
    x, axes = call.inputs[0], _integers(call.inputs[1])
    rank = len(x.shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = tf.expand_dims(x, axis)
    return x


def _slice(call: _Call) -> Tensor:
    x, starts, ends, axes, *steps = call.inputs
    return _part(x, _integers(starts), _integers(ends), _integers(axes), _integers(steps[0]) if steps else [])


def _part(x: Tensor, starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> Tensor:
    parts = [slice(None)] * len(x.shape)
    for i, axis in enumerate(axes):
        parts[axis] = slice(starts[i] or None, None if ends[i] == 2**31 - 1 else ends[i], steps[i] if steps else None)
    return x[tuple(parts)]


def _divide(call: _Call) -> Tensor:
    a, b = call.inputs
    return a // b if tf.as_dtype(a.dtype).is_integer else a / b


def _clip(call: _Call) -> Tensor:
    x, low, high = (*call.inputs, None)[:3]
    x = x if low is None else tf.maximum(x, low)
    return x if high is None else tf.minimum(x, high)


def _where(call: _Call) -> Tensor:
    """A choice of numbers, as sums: LiteRT's selection would need sizes that it computes while it runs."""
    condition, a, b = call.inputs
    condition = tf.cast(condition, tf.float32)
    return condition * a + (1 - condition) * b


def _log_sum_exp(call: _Call) -> Tensor:
    x, axes = call.inputs[0], call.attributes.get("axes") or _integers(call.inputs[1])
    largest = tf.reduce_max(x, axes, keepdims=True)
    total = tf.math.log(tf.reduce_sum(tf.exp(x - largest), axes, keepdims=True)) + largest
    return total if call.attributes.get("keepdims", 1) else tf.squeeze(total, axes)


def _reduction(function: Callable[..., Tensor]) -> Callable[[_Call], Tensor]:
    def reduce(call: _Call) -> Tensor:
        axes = call.attributes.get("axes") or _integers(call.inputs[1])
        return function(call.inputs[0], axes, keepdims=bool(call.attributes.get("keepdims", 1)))

    return reduce


def _average_pool(call: _Call) -> Tensor:
    """Means over groups of subcarriers, as the mean of one more axis: then planes need not be transposed."""
    height, width = call.attributes["kernel_shape"]
    if height != 1 or list(call.attributes["strides"]) != [1, width] or any(call.attributes.get("pads", [])):
        raise NotImplementedError
    x = call.inputs[0]
    return tf.reduce_mean(tf.reshape(x, [*x.shape[:3], -1, width]), -1)


def _resize(call: _Call) -> Tensor:
    """Linear interpolation of the last axis: weights of the neighbours of each value."""
    x, scales = call.inputs[0], call.inputs[2]
    mode, coordinates = (call.attributes[name] for name in ("mode", "coordinate_transformation_mode"))
    factor = round(float(scales[-1]))
    if mode != b"linear" or coordinates != b"half_pixel" or list(scales) != [1, 1, 1, factor]:
        raise NotImplementedError
    places = (np.arange(factor) + 0.5) / factor - 0.5
    weights = np.stack([np.maximum(-places, 0), 1 - np.abs(places), np.maximum(places, 0)]).astype(np.float32)
    neighbours = [tf.concat([x[..., :1], x[..., :-1]], -1), x, tf.concat([x[..., 1:], x[..., -1:]], -1)]
    return tf.reshape(tf.matmul(tf.stack(neighbours, -1), weights), [*x.shape[:3], -1])


def _convolution(call: _Call) -> Tensor:
    """A convolution of equal size: dense, or depthwise. TensorFlow's functions would write dilations as copies."""
    x, weight, bias = (*call.inputs, None)[:3]
    values = weight.value if isinstance(weight, _Quantised) else weight
    group, dilations = call.attributes["group"], call.attributes["dilations"]
    margins = [d * (k - 1) // 2 for d, k in zip(dilations, values.shape[2:], strict=True)]
    if set(call.attributes["strides"]) != {1} or list(call.attributes["pads"]) != margins * 2:
        raise NotImplementedError
    attributes = {"strides": [1, 1, 1, 1], "padding": "SAME", "dilations": [1, *dilations, 1]}
    x = _channels_last(x)
    if group == 1:
        x = tf.raw_ops.Conv2D(input=x, filter=_rounded(values.transpose(2, 3, 1, 0), weight), **attributes)
    elif group == x.shape[3]:
        kernel = _rounded(values.transpose(1, 2, 3, 0), weight)  # the channels of LiteRT's kernel are its last axis
        kernel = tf.reshape(kernel, [*values.shape[2:], group, -1])
        x = tf.raw_ops.DepthwiseConv2dNative(input=x, filter=kernel, **attributes)
    else:
        raise NotImplementedError
    return x if bias is None else tf.nn.bias_add(x, bias)


def _batch_normalisation(call: _Call) -> Tensor:
    x, scale, shift, mean, var = call.inputs
    factor = scale / np.sqrt(var + np.float32(call.attributes["epsilon"]))
    return _channels_last(x) * factor + (shift - mean * factor)


def _split(x: Tensor, sizes: Sequence[int], axis: int) -> tuple[Tensor, ...]:
    return tuple(tf.split(x, list(sizes), axis))


_PLANE_AXIS = {0: 0, 1: 3, 2: 1, 3: 2}
"""From axes of channels first to those of channels last."""

_ALWAYS_PLANES = ("Conv", "BatchNormalization")

_PLANE_OPERATORS: dict[str, Callable[[_Call], Any]] = {
    "Conv": _convolution,
    "BatchNormalization": _batch_normalisation,
    "Relu": lambda call: tf.nn.relu(_channels_last(call.inputs[0])),
    "Add": lambda call: _channels_last(call.inputs[0]) + _channels_last(call.inputs[1]),
    "Concat": lambda call: tf.concat(
        [_channels_last(x) for x in call.inputs], _PLANE_AXIS[call.attributes["axis"] % 4]
    ),
    "Slice": lambda call: _part(
        _channels_last(call.inputs[0]),
        _integers(call.inputs[1]),
        _integers(call.inputs[2]),
        [_PLANE_AXIS[axis % 4] for axis in _integers(call.inputs[3])],
        _integers(call.inputs[4]) if len(call.inputs) > 4 else [],
    ),
    "Split": lambda call: _split(
        _channels_last(call.inputs[0]), _integers(call.inputs[1]), _PLANE_AXIS[call.attributes["axis"] % 4]
    ),
}
"""Operators of planes with channels last."""

_OPERATORS: dict[str, Callable[[_Call], Any]] = {
    "Add": lambda call: call.inputs[0] + call.inputs[1],
    "AveragePool": _average_pool,
    "Cast": lambda call: tf.cast(call.inputs[0], _float_or_int(call.attributes["to"])),
    "Clip": _clip,
    "Concat": lambda call: tf.concat(call.inputs, call.attributes["axis"]),
    "Div": _divide,
    "Einsum": lambda call: tf.einsum(call.attributes["equation"].decode(), *call.inputs),
    "Exp": lambda call: tf.exp(call.inputs[0]),
    "Gather": lambda call: tf.gather(*call.inputs, axis=call.attributes.get("axis", 0)),
    "Greater": lambda call: call.inputs[0] > call.inputs[1],
    "Identity": lambda call: call.inputs[0],
    "Less": lambda call: call.inputs[0] < call.inputs[1],
    "Log": lambda call: tf.math.log(call.inputs[0]),
    "Max": lambda call: tf.maximum(*call.inputs),
    "Min": lambda call: tf.minimum(*call.inputs),
    "MatMul": lambda call: tf.matmul(*call.inputs),
    "Mul": lambda call: call.inputs[0] * call.inputs[1],
    "Neg": lambda call: -call.inputs[0],
    "Reciprocal": lambda call: 1 / call.inputs[0],
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _reduction(tf.reduce_max),
    "ReduceMean": _reduction(tf.reduce_mean),
    "ReduceSum": _reduction(tf.reduce_sum),
    "Relu": lambda call: tf.nn.relu(call.inputs[0]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sign": lambda call: tf.sign(call.inputs[0]),
    "Slice": _slice,
    "Split": lambda call: _split(call.inputs[0], _integers(call.inputs[1]), call.attributes["axis"]),
    "Sqrt": lambda call: tf.sqrt(call.inputs[0]),
    "Squeeze": lambda call: tf.squeeze(call.inputs[0], _integers(call.inputs[1])),
    "Sub": lambda call: call.inputs[0] - call.inputs[1],
    "Transpose": lambda call: tf.transpose(call.inputs[0], list(call.attributes["perm"])),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""Operators of values as they are in ONNX."""

_KNOWN = frozenset({"Constant", "QuantizeLinear", "DequantizeLinear", *_OPERATORS, *_PLANE_OPERATORS})


def _float_or_int(onnx_type: int) -> tf.DType:
    """The type of a cast; integers have 32 bits."""
    dtype = tf.as_dtype(onnx.helper.tensor_dtype_to_np_dtype(onnx_type))
    return tf.int32 if dtype.is_integer else dtype
