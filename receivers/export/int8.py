"""Exported receivers in 8-bit integers, with their bit errors.

Convolutions of the network compute in integers, in ONNX's QDQ form: weights have a scale per channel, activations a
scale per tensor from calibration slots. Weights use 7 bits: then sums of two products fit the 16 bits in which CPUs
without VNNI add them, and all CPUs compute the same.
"""

from __future__ import annotations

import logging
from pathlib import Path

from channels import Slots, Stream
from receivers.evaluation.stopping import Evaluation
from receivers.export.onnx import slot_arrays
from receivers.export.reduced_precision import PrecisionComparison, PrecisionForm, export_reduced, network_nodes
from receivers.runtime.slot_arrays import INPUTS, as_real


def quantise(path: Path, target: Path, slots: Slots) -> None:
    """Write the int8 form of an exported file.

    Args:
        path: the float32 file.
        target: the int8 file.
        slots: for calibration; more slots take longer.
    """
    import onnx
    from onnxruntime import quantization

    graph = onnx.load(path).graph
    inputs = [value.name for value in graph.input]

    class CalibrationReader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            y, pilots, noise, orders = slot_arrays(slots)
            arrays = dict(zip(INPUTS, (as_real(y), as_real(pilots), noise, orders), strict=True))
            self._pending = [{name: arrays[name][i : i + 1] for name in inputs} for i in range(len(slots))]

        def get_next(self) -> object:
            return self._pending.pop() if self._pending else None

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preprocessing pass that changes nothing here
    try:
        quantization.quantize_static(
            path,
            target,
            CalibrationReader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=network_nodes(graph.node),
        )
    finally:
        logging.getLogger().setLevel(level)


def export_int8(
    path: Path, calibration: Slots, stream: Stream, evaluation: Evaluation, target_ber: float
) -> PrecisionComparison:
    """Write ``<name>-int8.onnx`` next to ``<name>.onnx``, and ``<name>-int8.json`` with the errors of both.

    Args:
        path: the float32 file.
        calibration: see :func:`quantise`; no test slots.
        stream, evaluation: slots and points of the test.
        target_ber: BER at which the SINR loss is determined.

    Raises:
        UserError: if a file cannot be loaded.
    """
    form = PrecisionForm(
        precision="int8",
        description="onnx, convolutions in int8 in QDQ form: weights of 7 bits per channel, activations of 8 per "
        "tensor",
        write=lambda source, target: quantise(source, target, calibration),
        settings={"calibration_slots": len(calibration)},
    )
    return export_reduced(path, form, stream, evaluation, target_ber)
