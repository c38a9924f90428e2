"""Exported receivers in 8-bit integers, with their bit errors.

Convolutions of the network compute in integers, in ONNX's QDQ form: weights have a scale per channel, activations a
scale per tensor from calibration slots. Two steps before keep what 8 bits would lose: channels get equal ranges, and
biases make up for the rounding of weights, see :mod:`receivers.export.equalisation`. Weights use 7 bits: then sums of
two products fit the 16 bits in which CPUs without VNNI add them, and all CPUs compute the same. A LiteRT file has the
same scales and weights.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from channels import Slots, Stream
from receivers.evaluation.stopping import Evaluation
from receivers.export.equalisation import equalise, round_weights
from receivers.export.exported_receiver import slot_arrays
from receivers.export.litert import litert_file
from receivers.export.reduced_precision import PrecisionComparison, PrecisionForm, export_reduced, network_nodes
from receivers.runtime.slot_format import INPUTS, as_real


def quantise(path: Path, target: Path, slots: Slots) -> None:
    """Write the int8 form of an exported file.

    Args:
        path: the float32 file.
        target: the int8 file.
        slots: for calibration; more slots take longer.
    """
    from onnxruntime import quantization

    model = onnx.load(path)
    examples = _examples(model, slots)
    equalise(model, examples)
    round_weights(model, examples)

    class CalibrationReader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._pending = list(examples)

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
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=network_nodes(model.graph.node),
        )
    finally:
        logging.getLogger().setLevel(level)


def _examples(model: Any, slots: Slots) -> list[dict[str, np.ndarray]]:
    """The inputs of a graph for each slot."""
    y, pilots, noise, orders = slot_arrays(slots)
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
        description=f"{path.suffix[1:]}, convolutions in int8: weights of 7 bits with a scale per channel, activations "
        "of 8 bits with one per tensor, whose channels have equal ranges",
        write=write,
        settings={"calibration_slots": len(calibration)},
    )
    return export_reduced(path, form, stream, evaluation, target_ber)
