"""The operations of an exported ONNX graph: the file itself is counted, not the network that it came from.

MACs are those of convolutions, matrix products, recurrent cells and attention, see
:mod:`energy.counting.onnx_operators`. An operator that is not known there stops the count. Bytes follow the types that
the file stores. What every runtime fuses is counted fused: a convolution, product or addition between
``DequantizeLinear`` and ``QuantizeLinear`` reads and writes the quantised values, and a ``Relu`` (or ``Clip``) on a
convolution's or product's only result costs nothing of its own. Operators without an integer form, such as a batch-norm
that did not fold, are counted in floating point with the conversions around them. So are convolutions with weights
alone in 8 bits.

The graph of an exported receiver goes from samples to LLRs. Much of its front end and detection is products of two
planes. So each element of a product or quotient counts as a MAC there, as it does in the formulas of receivers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from energy.counting.onnx_graph import OnnxGraph
from energy.counting.onnx_operators import is_known
from energy.counting.onnx_standard_forms import qualified_name, standard_form
from energy.counting.profile import OperationProfile
from leanrx_core.checks import integer
from leanrx_core.errors import UserError

_RECEIVER_KEY, _SLOTS_KEY = "receiver", "slots"  # as receivers.export writes them
_PRODUCTS = ("Mul", "Div")
_MAX_NAMES = 5


@dataclass(frozen=True)
class OnnxInterface:
    """What a file says of itself.

    Attributes:
        input_sizes: of its first input; 0 where the file leaves a size free.
        num_bits: second size of its first output; 0 if it has none or leaves it free.
        receiver: spec string; empty if it is no exported receiver.
    """

    input_sizes: tuple[int, ...]
    num_bits: int
    receiver: str


def read_interface(path: str | Path) -> OnnxInterface:
    """Input, output and receiver of an ONNX file.

    Raises:
        UserError: if the file cannot be read, its first input is no tensor of known rank, or it is a receiver of an
            earlier version.
    """
    model = _load(str(path))
    sizes = tuple(max(0, d.dim_value) for d in _first_input(model, str(path)).type.tensor_type.shape.dim)
    result = [d for value in model.graph.output[:1] for d in value.type.tensor_type.shape.dim]
    return OnnxInterface(sizes, max(0, result[1].dim_value) if len(result) > 1 else 0, _receiver(model, str(path)))


def _receiver(model: Any, path: str) -> str:
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    receiver = metadata.get(_RECEIVER_KEY, "")
    if receiver and _SLOTS_KEY not in metadata:
        raise UserError(f"{path}: exported by an earlier version of leanrx, without its front end; export again")
    return receiver


def count_onnx(path: str | Path, shape: Sequence[int] | None = None) -> OperationProfile:
    """Count one run of an ONNX graph.

    Args:
        path: the file.
        shape: of its first input, slots first; needed where the file leaves sizes free.

    Raises:
        UserError: if the file cannot be read, a size stays unknown, or an operator is not known.
    """
    model = _read(str(path), shape)
    is_receiver = bool(_receiver(model, str(path)))
    graph = OnnxGraph(model, str(path), is_receiver)
    layers, uncounted = [], []
    macs_at: dict[str, int] = {"fp32": 0}
    for node in model.graph.node:
        if graph.fused(node):
            continue
        macs = graph.macs(node)
        if macs:
            precision = graph.precision(node)
            macs_at[precision] = macs_at.get(precision, 0) + macs
        layer = graph.layer(node, macs)
        if is_receiver and node.op_type in _PRODUCTS:
            layer = replace(layer, macs=graph.elements(node))
        layers.append(layer)
        if not graph.is_known(node):
            uncounted.append(layer.name)
    return OperationProfile(
        Path(path).name,
        max(macs_at, key=lambda p: macs_at[p]),
        graph.sizes[_first_input(model, str(path)).name][0],
        tuple(layers),
        uncounted=tuple(uncounted),
    )


def _load(path: str) -> Any:
    import onnx

    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; give the path of an ONNX file")
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:
        raise _unreadable(path, error) from None


def _read(path: str, shape: Sequence[int] | None) -> Any:
    """The model without functions, with sizes and types of its values."""
    import onnx
    from onnx import inliner

    model = _load(path)
    try:
        model = inliner.inline_local_functions(model)
        _check_operators(model, path)
        _bind(model, path, shape)
        standard = onnx.ModelProto()
        standard.CopyFrom(model)
        del standard.graph.node[:]
        standard.graph.node.extend(form for node in model.graph.node for form in standard_form(node))
        inferred = onnx.shape_inference.infer_shapes(standard, strict_mode=True, data_prop=True)
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from None
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)
    del model.graph.output[:]
    model.graph.output.extend(inferred.graph.output)
    return model


def _check_operators(model: Any, path: str) -> None:
    unknown = [*dict.fromkeys(qualified_name(node) for node in model.graph.node if not is_known(node))]
    if unknown:
        more = f" and {len(unknown) - _MAX_NAMES} more" * (len(unknown) > _MAX_NAMES)
        names = ", ".join(unknown[:_MAX_NAMES]) + more
        raise UserError(f"{path}: operators that are not counted: {names}; count the model before export")


def _unreadable(path: str, error: Exception) -> UserError:
    return UserError(f"{path}: not an ONNX graph with known shapes ({type(error).__name__}); export it again")


def _first_input(model: Any, path: str) -> Any:
    """The first input that is no constant. Files of IR version 3 list their constants among the inputs.

    Raises:
        UserError: if there is none, or it is no tensor with slots in its first size.
    """
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    if not inputs:
        raise UserError(f"{path}: a graph without inputs; nothing to count")
    if not inputs[0].type.HasField("tensor_type") or not inputs[0].type.tensor_type.shape.dim:
        raise UserError(f"{path}: its input '{inputs[0].name}' is no tensor of known rank; export it again")
    return inputs[0]


def _bind(model: Any, path: str, shape: Sequence[int] | None) -> None:
    """Give the first input its sizes, and free dimensions of the same name everywhere else."""
    dims = _first_input(model, path).type.tensor_type.shape.dim
    if shape is None:
        if not all(d.HasField("dim_value") for d in dims):
            named = ", ".join(d.dim_param if d.HasField("dim_param") else str(d.dim_value) for d in dims)
            raise UserError(f"{path}: its input leaves sizes free ({named}); give model.shape")
        shape = [d.dim_value for d in dims]
    if len(shape) != len(dims):
        raise UserError(f"model.shape: {len(shape)} sizes, but the input of {path} has {len(dims)}")
    names = {}
    for dim, size in zip(dims, shape, strict=True):
        integer("model.shape", size, 1)
        if dim.HasField("dim_value") and dim.dim_value != size:
            raise UserError(
                f"model.shape: {list(shape)} does not fit {path}, which fixes one size to {dim.dim_value}; give "
                "the sizes of the graph"
            )
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
