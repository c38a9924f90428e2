"""Standard forms of ONNX operators of other domains: standard nodes with results of the same sizes and types.

ONNX infers sizes and types of its own operators only. A graph of the domain ``com.microsoft``, as ONNX Runtime's
optimiser and quantisers write it, is therefore inferred in its standard form. The graph itself is counted.
"""

from __future__ import annotations

from typing import Any

MICROSOFT = "com.microsoft"
_CONVOLUTION = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
_GEMM = ("transA", "transB", "alpha", "beta")

_FORMS: dict[str, tuple[str, tuple[int, ...], tuple[str, ...]]] = {
    "FusedConv": ("Conv", (0, 1, 2), _CONVOLUTION),
    "FusedGemm": ("Gemm", (0, 1, 2), _GEMM),
    "FusedMatMul": ("MatMul", (0, 1), ()),
    "DynamicQuantizeMatMul": ("MatMul", (0, 1), ()),
    "MatMulIntegerToFloat": ("MatMul", (0, 1), ()),
    "QGemm": ("Gemm", (0, 3, 6), _GEMM),
    "QLinearAdd": ("Add", (0, 3), ()),
    "QLinearMul": ("Mul", (0, 3), ()),
    "QLinearAveragePool": ("AveragePool", (0,), _POOL),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,), ()),
    **dict.fromkeys(("QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"), ("Identity", (0,), ())),
    **dict.fromkeys(("Gelu", "FastGelu", "QuickGelu", "BiasGelu"), ("Identity", (0,), ())),
    "QuantizeLinear": ("QuantizeLinear", (0, 1, 2), ("axis",)),
    "DequantizeLinear": ("DequantizeLinear", (0, 1, 2), ("axis",)),
}
"""Standard operator, the inputs that it takes, and its attributes."""

STANDARD_FORMS = {f"{MICROSOFT}::{name}" for name in (*_FORMS, "MatMulNBits", "QLinearConcat")}
"""Qualified names of the operators that have one."""

_QUANTISATION_INPUTS: dict[str, tuple[int, ...]] = {
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    f"{MICROSOFT}::MatMulNBits": (2, 3, 4),
    f"{MICROSOFT}::DynamicQuantizeMatMul": (2, 3),
    f"{MICROSOFT}::MatMulIntegerToFloat": (2, 3, 4, 5),
}


def qualified_name(node: Any) -> str:
    """Name of a node's operator, with its domain unless that is ONNX's own."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """Value of an attribute."""
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def quantisation_inputs(node: Any) -> set[str]:
    """Names of the inputs that are scales, zero points or group indices, and no trained values."""
    name = qualified_name(node)
    indices = _QUANTISATION_INPUTS.get(name, ())
    if node.op_type == "QLinearConcat":
        indices = tuple(i for i in range(len(node.input)) if i < 2 or i % 3 != 2)
    elif node.op_type.startswith("QLinear") or node.op_type == "QGemm":
        data = _FORMS.get(node.op_type, ("", (), ()))[1]
        indices = indices or tuple(i for i in range(len(node.input)) if i not in data)
    return {node.input[i] for i in indices if i < len(node.input)}


def standard_form(node: Any) -> list[Any]:
    """Standard nodes whose results have the sizes and types of a node's; the node itself if it is standard.

    Raises:
        ValueError: if there is none.
    """
    from onnx import TensorProto, helper

    name, out = qualified_name(node), node.output[0]
    if "::" not in name:
        return [node]
    unusual = ("transA", "transB") if node.op_type == "FusedMatMul" else ()
    if name not in STANDARD_FORMS or any(attribute(node, a, 0) for a in (*unusual, "transBatchA", "channels_last")):
        raise ValueError(name)
    if node.op_type == "MatMulNBits":
        return _product_with_weights_of_few_bits(node)
    if node.op_type == "QLinearConcat":
        return [helper.make_node("Concat", node.input[2::3], [out], axis=attribute(node, "axis"))]
    standard, indices, attributes = _FORMS[node.op_type]
    inputs = [node.input[i] for i in indices if i < len(node.input)]
    has_float_result = node.op_type == "MatMulIntegerToFloat" or (node.op_type == "QGemm" and len(node.input) < 8)
    results = [f"{out}/integers", out] if has_float_result else [out]
    form = helper.make_node(standard, inputs, results[:1])
    form.attribute.extend(a for a in node.attribute if a.name in attributes)
    casts = [helper.make_node("Cast", results[:1], results[1:], to=TensorProto.FLOAT)] if has_float_result else []
    return [form, *casts]


def _product_with_weights_of_few_bits(node: Any) -> list[Any]:
    """``MatMulNBits``: a product with weights of sizes K and N, which the file holds in blocks of packed bytes."""
    from onnx import TensorProto, helper

    out = node.output[0]
    shape, weights = f"{out}/sizes of weights", f"{out}/weights"
    sizes = helper.make_tensor(shape, TensorProto.INT64, [2], [attribute(node, "K"), attribute(node, "N")])
    return [
        helper.make_node("Constant", [], [shape], value=sizes),
        helper.make_node("ConstantOfShape", [shape], [weights]),
        helper.make_node("MatMul", [node.input[0], weights], [out]),
    ]
