"""Exported receivers in 8-bit integers, with their bit errors.

Convolutions of the network compute in integers, in ONNX's QDQ form: weights have a scale per channel, activations a
scale per tensor from calibration slots. All other operators stay in float32, such as a front end. They carry channel
estimates, powers and LLRs, whose range exceeds 8 bits, and they cost little. Weights use 7 bits: then sums of two
products fit the 16 bits in which CPUs without VNNI add them, and all CPUs compute the same. An int8 file differs from
the tested receiver. So the errors of both files are counted on the same slots, and the report holds both with
intervals.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from channels import Slots, Stream
from leanrx_core.files import TEMPORARY, write_atomic
from receivers.evaluation.monte_carlo import count_errors
from receivers.evaluation.rates import rates
from receivers.evaluation.required_sinr import SinrGap, gap_db
from receivers.evaluation.stopping import Evaluation
from receivers.export.onnx import OnnxReceiver, slot_arrays
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
            nodes_to_quantize=_integer_nodes(graph.node),
        )
    finally:
        logging.getLogger().setLevel(level)


def _integer_nodes(nodes: Sequence[Any]) -> list[str]:
    """Names of the nodes to quantise: convolutions, activations, and concatenations of convolutions only."""
    results = {node.output[0] for node in nodes if node.op_type == "Conv"}
    return [
        node.name
        for node in nodes
        if node.op_type in ("Conv", "Relu") or (node.op_type == "Concat" and set(node.input) <= results)
    ]


@dataclass(frozen=True)
class Int8Comparison:
    """An int8 file compared with its float32 file.

    Attributes:
        path: of the int8 file.
        rates: of both on the same slots, see :func:`receivers.evaluation.rates.rates`; ``receiver`` is the file's name.
        target_ber: BER of the losses.
        losses: additional SINR that the int8 file needs, by interference fraction; NaN where a curve does not reach
            the BER.
    """

    path: Path
    rates: pd.DataFrame
    target_ber: float
    losses: dict[float, SinrGap]


def export_int8(
    path: Path, calibration: Slots, stream: Stream, evaluation: Evaluation, target_ber: float
) -> Int8Comparison:
    """Write ``<name>-int8.onnx`` next to ``<name>.onnx``, and ``<name>-int8.json`` with the errors of both.

    Args:
        path: the float32 file.
        calibration: see :func:`quantise`; no test slots.
        stream, evaluation: slots and points of the test.
        target_ber: BER at which the SINR loss is determined.

    Raises:
        UserError: if a file cannot be loaded.
    """
    target = path.with_name(f"{path.stem}-int8.onnx")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as work:
        temporary = Path(work) / target.name
        quantise(path, temporary, calibration)
        receivers = [OnnxReceiver(path, path.name), OnnxReceiver(temporary, target.name)]
        counts_path = Path(work) / "ber.parquet"
        for _ in count_errors(receivers, stream, evaluation, counts_path):
            pass
        counts = pd.read_parquet(counts_path)
        losses = {
            fraction: gap_db(counts[counts["interference_fraction"] == fraction], target.name, path.name, target_ber)
            for fraction in evaluation.interference_fractions
        }
        temporary.rename(target)
    comparison = Int8Comparison(target, rates(counts), target_ber, losses)
    report = _report(comparison, receivers, len(calibration))
    write_atomic(target.with_suffix(".json"), json.dumps(report, indent=2) + "\n")
    return comparison


def _report(comparison: Int8Comparison, receivers: list[OnnxReceiver], slots: int) -> dict[str, object]:
    float32, int8 = receivers
    losses = [{"interference_fraction": fraction, **asdict(gap)} for fraction, gap in comparison.losses.items()]
    columns = [
        "receiver",
        "interference_fraction",
        "sinr_db",
        "slots",
        "bits",
        "bit_errors",
        "ber",
        "ber_low",
        "ber_high",
    ]
    return {
        "format": "onnx, convolutions in int8 in QDQ form: weights of 7 bits per channel, activations of 8 per tensor",
        "file": int8.name,
        "bytes": comparison.path.stat().st_size,
        "sha256": int8.digest,
        "of": {"file": float32.name, "sha256": float32.digest},
        "calibration_slots": slots,
        "target_ber": comparison.target_ber,
        "losses": [{k: None if math.isnan(v) else v for k, v in loss.items()} for loss in losses],
        "points": comparison.rates[columns].to_dict("records"),
    }
