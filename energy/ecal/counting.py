"""FLOPs by counting: a receiver of the house by its name, or any ONNX file. FLOP = 2 x MAC, nothing else counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from channels.errors import UserError
from energy.ecal.checks import choice, whole


def receiver_flops(receiver: str, num_prb: int = 26, num_rx: int = 2, num_bits: int = 4) -> int:
    """FLOPs of a receiver on one slot, as ``leanrx count`` finds them (this imports torch).

    Args:
        receiver: spec string, or ``LS``, ``LMMSE``, ``LMMSE-IRC``.
        num_prb, num_rx: of the grid.
        num_bits: bits per QAM symbol: 2, 4, 6 or 8.

    Raises:
        UserError: if the receiver is not known, or the two counters disagree.
    """
    from channels import Grid
    from energy.operations import count, count_classical
    from receivers.spec import build

    grid = Grid.parse({"num_prb": num_prb, "num_rx": num_rx}, "model.receiver")
    choice("model.receiver.num_bits", num_bits, (2, 4, 6, 8))
    if receiver in ("LS", "LMMSE", "LMMSE-IRC"):
        return count_classical(receiver, grid, num_bits).flops
    counted = count(build(receiver, num_rx, num_bits), grid, receiver)
    if not counted.agreed:
        raise UserError(f"{receiver}: fvcore counts {counted.flops} FLOPs, torch {counted.witness_flops}")
    return counted.flops


_CONVOLUTIONS = {"Conv", "ConvInteger", "QLinearConv", "ConvTranspose"}
_PRODUCTS = {"MatMul", "MatMulInteger", "QLinearMatMul", "Gemm"}
_REFUSED = {
    "Einsum", "LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention", "DeformConv", "FusedConv", "FusedMatMul",
    "DFT", "STFT", "If", "Loop", "Scan",
}  # fmt: skip
_WEIGHTS_INPUT = {"QLinearConv": 3, "QLinearMatMul": 3}


def onnx_flops(path: str, shape: Sequence[int] | None = None) -> int:
    """FLOPs of one run of an ONNX graph: twice the MACs of its convolutions and matrix products.

    Args:
        path: the file.
        shape: of its first input; needed where the file leaves sizes free.

    Raises:
        UserError: if the file cannot be read, a size stays unknown, or an operator computes MACs that are not counted.
    """
    import onnx

    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; give the path of an ONNX file")
    try:
        model = onnx.load(path, load_external_data=False)
        _bind(model, path, shape)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path}: not an ONNX graph with known shapes ({type(error).__name__}); export it again"
        ) from None
    graph = model.graph
    sizes: dict[str, list[int]] = {t.name: list(t.dims) for t in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if all(d.HasField("dim_value") for d in dims):
            sizes[value.name] = [d.dim_value for d in dims]
    functions = {f.name for f in model.functions}
    macs = 0
    for node in graph.node:
        if node.op_type in _REFUSED or node.op_type in functions:
            raise UserError(f"{path}: operator {node.op_type} is not counted; count the model before export")
        if node.op_type in _CONVOLUTIONS | _PRODUCTS:
            macs += _macs(node, sizes, path)
    return 2 * macs


def _bind(model: Any, path: str, shape: Sequence[int] | None) -> None:
    """Give the first input its sizes, and free dimensions of the same name everywhere else."""
    held = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in held]
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
        whole("model.shape", size, 1)
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


def _macs(node: Any, sizes: dict[str, list[int]], path: str) -> int:
    def size(name: str) -> list[int]:
        if name not in sizes:
            raise UserError(f"{path}: size of '{name}' at {node.op_type} is not known; give model.shape or simplify it")
        return sizes[name]

    out = math.prod(size(node.output[0]))
    weights = size(node.input[_WEIGHTS_INPUT.get(node.op_type, 1)])
    if node.op_type == "ConvTranspose":  # every input element meets the kernel of each output channel of its group
        return math.prod(size(node.input[0])) * math.prod(weights[1:])
    if node.op_type in _CONVOLUTIONS:  # weights (out, in / groups, *kernel)
        return out * math.prod(weights[1:])
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    inner = weights[-1] if transposed else weights[-2] if len(weights) > 1 else weights[0]
    return out * inner
