"""Which operators of ONNX multiply and accumulate, and how often.

As with torch (:mod:`energy.counting.torch_operators`), every operator has a formula in :data:`MAC_FORMULAS`, or is in
the table of operators without MACs, or is not known. Operators of another domain, such as ``com.microsoft``, have the
domain in their name, and need a standard form, see :mod:`energy.counting.onnx_standard_forms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from energy.counting.onnx_standard_forms import MICROSOFT, STANDARD_FORMS, attribute, qualified_name, standard_form

Sizes = Callable[[str], Sequence[int]]
Formula = Callable[[Any, Sizes], int]
"""MACs of a node, from its attributes and the sizes of its values."""


def _convolution(weights: int) -> Formula:
    """Each result meets the kernel of its output channel, ``(out, in / groups, *kernel)``."""
    return lambda node, sizes: math.prod(sizes(node.output[0])) * math.prod(sizes(node.input[weights])[1:])


def _transposed_convolution(node: Any, sizes: Sizes) -> int:
    """Each input value meets the kernel of each output channel of its group."""
    return math.prod(sizes(node.input[0])) * math.prod(sizes(node.input[1])[1:])


def _product(node: Any, sizes: Sizes) -> int:
    """Each result is a sum over the last size of the first matrix, or the one before it if that is transposed."""
    first = sizes(node.input[0])
    return math.prod(sizes(node.output[0])) * first[-2 if attribute(node, "transA", 0) else -1]


def _recurrent_cell(node: Any, sizes: Sizes) -> int:
    """Input and recurrent weights of all directions and gates, in each step."""
    steps = math.prod(sizes(node.input[0])[:2])
    return steps * (math.prod(sizes(node.input[1])) + math.prod(sizes(node.input[2])))


def _attention(node: Any, sizes: Sizes) -> int:
    """Scores of each query with each key, past ones included, and the sum of the values that they weigh."""
    keys = sizes(node.input[1])[-2]
    if len(node.input) > 4 and node.input[4]:
        keys += sizes(node.input[4])[-2]
    return keys * (math.prod(sizes(node.input[0])) + math.prod(sizes(node.output[0])))


def _einsum(node: Any, sizes: Sizes) -> int:
    return contraction_macs(attribute(node, "equation").decode(), [sizes(name) for name in node.input])


def contraction_macs(equation: str, sizes: Sequence[Sequence[int]]) -> int:
    """MACs of an ``einsum`` of one or two operands; labels of one operand alone are summed before the product.

    Args:
        equation: labels of the operands and of the result.
        sizes: of each operand.

    Raises:
        ValueError: if it has more operands, a repeated label or an ellipsis.

    Example:
        >>> contraction_macs("ij,jk->ik", [(2, 3), (3, 5)])
        30
    """
    operands, arrow, result = equation.replace(" ", "").partition("->")
    terms = operands.split(",")
    if len(terms) > 2 or any("." in term or len(set(term)) < len(term) for term in terms):
        raise ValueError("several contractions")
    if not arrow:
        result = "".join(label for label in set(operands) - {","} if operands.count(label) == 1)
    shared = set(terms[0]).intersection(*terms[1:]) if len(terms) == 2 else set()
    if not shared - set(result):
        return 0
    pairs = [zip(term, shape, strict=True) for term, shape in zip(terms, sizes, strict=True)]
    by_label = {label: size for pair in pairs for label, size in pair}
    return math.prod(size for label, size in by_label.items() if label in shared or label in result)


MAC_FORMULAS: dict[str, Formula] = {
    **{name: _convolution(1) for name in ("Conv", "ConvInteger", f"{MICROSOFT}::FusedConv")},
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul", "Gemm"), _product),
    **{f"{MICROSOFT}::{name}": _product for name in ("MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")},
    **{f"{MICROSOFT}::{name}": _product for name in ("FusedMatMul", "FusedGemm", "QGemm")},
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent_cell),
    "Attention": _attention,
    "Einsum": _einsum,
}
"""Formulas by qualified name."""

CONVOLUTIONS = {"Conv", "ConvInteger", "QLinearConv", "ConvTranspose", f"{MICROSOFT}::FusedConv"}
INTEGER_OPERATORS = {
    *("ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul"),
    *(f"{MICROSOFT}::{name}" for name in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QGemm")),
}
"""Operators that multiply in integers by themselves."""

_WITHOUT_MACS = """
    Constant ConstantOfShape EyeLike Range RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli
    Multinomial BlackmanWindow HammingWindow HannWindow Identity Shape Size Reshape Squeeze Unsqueeze Flatten
    Transpose Cast CastLike BitCast Concat Split Slice Gather GatherElements GatherND Scatter ScatterElements
    ScatterND TensorScatter Compress Expand Tile Pad Trilu DepthToSpace SpaceToDepth ReverseSequence OneHot Where
    Col2Im CenterCropPad Dropout NonZero Unique TopK

    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Celu Clip
    Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Hardmax IsInf IsNaN
    LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu RotaryEmbedding
    Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Xor

    ArgMax ArgMin CumProd CumSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Softmax LogSoftmax BatchNormalization GroupNormalization
    InstanceNormalization LayerNormalization LpNormalization MeanVarianceNormalization RMSNormalization LRN
    SimplifiedLayerNormalization

    AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxUnpool GridSample Resize Upsample
    QuantizeLinear DequantizeLinear DynamicQuantizeLinear NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss
    """
WITHOUT_MACS = {*_WITHOUT_MACS.split(), *(name for name in STANDARD_FORMS if name not in MAC_FORMULAS)}
"""Operators without MACs, by qualified name."""


def is_known(node: Any) -> bool:
    """Whether a node's operator has a formula or is known to have no MACs, and has a standard form."""
    name = qualified_name(node)
    if name not in MAC_FORMULAS and name not in WITHOUT_MACS:
        return False
    try:
        return bool(standard_form(node))
    except ValueError:
        return False
