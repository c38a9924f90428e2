"""Exported receivers in 8-bit integers, with their bit errors.

Convolutions of the network compute in integers, in ONNX's QDQ form: weights have a scale per channel, activations a
scale per tensor. Four steps keep what 8 bits would lose:

* The last layers compute in float32, see :func:`integer_nodes`.
* Channels get equal ranges, and biases make up for the rounding of weights, see :mod:`receivers.export.equalisation`.
* The range of a value is that of least squared error over calibration slots, see
  :mod:`receivers.export.value_ranges`.
* Weights have all 8 bits. In an ONNX file they have no sign, and an offset of 128: CPUs without VNNI would add products
  of two signed weights in 16 bits, which overflow. So all CPUs compute the same.

A LiteRT file has the same scales, and the same weights with a sign.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from channels import Slots, Stream
from receivers.evaluation.stopping import Evaluation
from receivers.export.equalisation import equalise, round_weights
from receivers.export.exported_receiver import runtime_arguments
from receivers.export.litert import litert_file
from receivers.export.reduced_precision import PrecisionComparison, PrecisionForm, export_reduced, network_nodes
from receivers.export.value_ranges import tensor_ranges
from receivers.runtime.slot_format import INPUTS, as_real

OFFSET = 128
"""Of weights without a sign."""

_INNER_OPERATORS = ("Conv", "Relu", "Concat", "BatchNormalization", "Add")
"""What reads the results of convolutions inside of a network."""


def quantise(path: Path, target: Path, slots: Slots) -> None:
    """Write the int8 form of an exported file.

    Args:
        path: the float32 file.
        target: the int8 file.
        slots: for calibration; more slots take longer.
    """
    from onnxruntime import quantization

    model = onnx.load(path)
    examples, nodes = _examples(model, slots), integer_nodes(model.graph.node)
    equalise(model, nodes, examples)
    round_weights(model, nodes, examples)
    ranges = tensor_ranges(model, _activations(model, nodes), examples)

    class CalibrationReader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._pending = examples[:1]  # the ranges are known

        def get_next(self) -> object:
            return self._pending.pop() if self._pending else None

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preprocessing pass that changes nothing here
    try:
        quantization.quantize_static(
            model,
            target,
            CalibrationReader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=nodes,
            extra_options={
                "TensorQuantOverrides": {
                    name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ranges.items()
                }
            },
        )
    finally:
        logging.getLogger().setLevel(level)
    quantised = onnx.load(target)
    _remove_sign(quantised)
    onnx.save(quantised, target)


def integer_nodes(nodes: Sequence[Any]) -> list[str]:
    """Names of the nodes of a network that compute in integers: all but its last layers.

    The result of a last layer goes to operators outside of the network, such as the update of a channel estimate. At a
    high SINR, updates are small beside the range over all SINRs, and 8 bits would round many of them to 0.
    """
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    results = [node.output[0] for node in nodes if node.op_type == "Conv"]
    last = {name for name in results if any(x.op_type not in _INNER_OPERATORS for x in readers.get(name, []))}
    network = set(network_nodes(nodes))

    def is_integer(node: Any) -> bool:
        if node.op_type != "Relu":
            return node.output[0] not in last
        follows = node.input[0] in results and node.input[0] not in last
        return follows or any(reader.output[0] not in last for reader in readers[node.output[0]])

    return [node.name for node in nodes if node.name in network and is_integer(node)]


def _activations(model: Any, nodes: list[str]) -> list[str]:
    """Values that the nodes of a network read and write, without parameters."""
    network = [node for node in model.graph.node if node.name in set(nodes)]
    names = [name for node in network for name in (*node.input[:1], *node.output)]
    names += [name for node in network if node.op_type == "Concat" for name in node.input]
    return list(dict.fromkeys(names))


def _remove_sign(model: Any) -> None:
    """Add 128 to the weights of 8 bits and to their zero points, in place. The model computes the same."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in arrays]
    weights = [node for node in readers if arrays[node.input[0]].data_type == onnx.TensorProto.INT8]
    for name in {name for node in weights for name in (node.input[0], node.input[2])}:
        values = numpy_helper.to_array(arrays[name]).astype(np.int16) + OFFSET
        arrays[name].CopyFrom(numpy_helper.from_array(values.astype(np.uint8), name))


def _examples(model: Any, slots: Slots) -> list[dict[str, np.ndarray]]:
    """The inputs of a graph for each slot."""
    y, pilots, noise, orders = runtime_arguments(slots)
    arrays: dict[str, np.ndarray] = dict(zip(INPUTS, (as_real(y), as_real(pilots), noise, orders), strict=True))
    return [{value.name: arrays[value.name][i : i + 1] for value in model.graph.input} for i in range(len(slots))]


def export_int8(
    path: Path, graph: Path, calibration: Slots, stream: Stream, evaluation: Evaluation, target_ber: float
) -> PrecisionComparison:
    """Write the int8 form of a file next to it, as ``<name>-int8``, and ``<name>-int8.json`` with the errors of both.

    Args:
        path: the float32 file, ONNX or LiteRT.
        graph: the ONNX file of the same receiver; ``path`` itself if it is that.
        calibration: see :func:`quantise`; no test slots.
        stream, evaluation: slots and points of the test.
        target_ber: BER at which the SINR loss is determined.

    Raises:
        UserError: if a file cannot be loaded.
    """

    def write(_: Path, target: Path) -> None:
        quantised = target.with_suffix(".onnx")
        quantise(graph, quantised, calibration)
        if target.suffix == ".tflite":
            target.write_bytes(litert_file(onnx.load(quantised)))

    form = PrecisionForm(
        precision="int8",
        description=f"{path.suffix[1:]}, convolutions in int8 but for last layers: weights with a scale per channel, "
        "activations with one per tensor, whose channels have equal ranges; ranges of least squared error",
        write=write,
        settings={"calibration_slots": len(calibration)},
    )
    return export_reduced(path, form, stream, evaluation, target_ber)
